"""The rules of the house that a machine can check; for each, that the tree keeps it and that a
breach is caught.

A rule takes a path and a text and says what is wrong, a sentence per breach. `@rule` names the
folders it runs over and shows it a breach. What ruff, mypy and import-linter check is theirs. Rules
about lists (codes, limits, dependencies, the top level) are in `test_house_lists.py`.
"""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = ("exchange/", "buyers_sim/", "loadtest/", "migrations/")
QUIET = ("exchange/core/", "exchange/dialects/")
PARTS = (*QUIET, "exchange/effects/", "exchange/flows/", "exchange/api/")
TESTS = ("tests/",)

Breaches = Iterator[str]
Check = Callable[[str, str], Breaches]
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Rule(NamedTuple):
    """A check, where it runs, and what it must catch: `(path, text)`."""

    check: Check
    over: tuple[str, ...]
    endings: tuple[str, ...]
    caught: tuple[tuple[str, str], ...]


RULES: dict[str, Rule] = {}


def rule(
    *caught: str | tuple[str, str], over: tuple[str, ...], endings: tuple[str, ...] = (".py",)
) -> Callable[[Check], Check]:
    shown = tuple(c if isinstance(c, tuple) else (f"{over[0]}bad.py", c) for c in caught)

    def registered(check: Check) -> Check:
        RULES[check.__name__] = Rule(check, over, endings, shown)
        return check

    return registered


@cache
def files() -> tuple[str, ...]:
    """The project's files, whether or not they are committed yet, without what is ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(path for path in listed.stdout.splitlines() if (ROOT / path).is_file())


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def functions(text: str) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(text)) if isinstance(node, Function))


# --- shape ----------------------------------------------------------------------------------------

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60


@rule("pass\n" * 501, over=(*CODE, *TESTS), endings=(".py", ".sql", ".lua"))
def file_fits_the_wall(path: str, text: str) -> Breaches:
    if (lines := text.count("\n")) > FILE_LINES_MAX:
        yield f"{path}: {lines} lines, the wall is {FILE_LINES_MAX}"


@rule("def long():\n" + "    pass\n" * 60, over=(*CODE, *TESTS))
def function_fits_the_wall(path: str, text: str) -> Breaches:
    for function in functions(text):
        lines = (function.end_lineno or 0) - function.lineno + 1
        if lines > FUNCTION_LINES_MAX:
            yield f"{path}: {function.name} has {lines} lines, the wall is {FUNCTION_LINES_MAX}"


@rule("state = {}", "seen: list[int] = []", "def f():\n    global seen", over=CODE)
def nothing_global_changes(path: str, text: str) -> Breaches:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield f"{path}:{node.lineno}: global {', '.join(node.names)}"
    for statement in tree.body:
        for name, _, value in given(statement):
            is_variable = name.strip("_").islower() and not name.startswith("__")
            if is_variable and isinstance(value, ast.Dict | ast.List | ast.Set):
                yield f"{path}:{statement.lineno}: {name} is a global that can change"


# --- names ----------------------------------------------------------------------------------------

THEIR_NAMES = frozenset({"handle_error", "_process_keepalive"})
"""Methods of a library's class that ours overrides: the name is not ours to choose."""
EMPTY_VERB = re.compile(r"^_*(get|handle|process|do|manage)_")
EMPTY_NOUN = re.compile(r"(^|_)(utils?|helpers?|common|base|managers?|services?|misc)(_|$)")
EMPTY_CLASS = re.compile(r"(Manager|Service|Helpers?|Utils?|Processor)$")


@rule(
    ("exchange/core/utils.py", ""),
    ("exchange/flows/lead_manager.py", ""),
    "def get_price(): ...",
    "async def _handle_ping(): ...",
    "class CapsManager: ...",
    over=CODE,
)
def names_say_something(path: str, text: str) -> Breaches:
    for part in Path(path).with_suffix("").parts:
        if EMPTY_NOUN.search(part):
            yield f"{path}: {part} says nothing"
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, Function) or node.name in THEIR_NAMES:
            pass
        elif EMPTY_VERB.search(node.name):
            yield f"{path}:{node.lineno}: {node.name}: say what it answers or does"
        if isinstance(node, ast.ClassDef) and EMPTY_CLASS.search(node.name):
            yield f"{path}:{node.lineno}: {node.name} says nothing"


@rule("def test_caps(): ...", "async def test_full_cap(): ...", over=TESTS)
def names_of_tests_are_sentences(path: str, text: str) -> Breaches:
    """Three words are the least that can say what holds."""
    for function in functions(text):
        if function.name.startswith("test_") and function.name.count("_") < 3:
            yield f"{path}:{function.lineno}: {function.name} is no sentence"


# --- exceptions -----------------------------------------------------------------------------------

EDGES = ("exchange/effects/buyers/", "exchange/api/errors.py", "exchange/api/door.py")
"""The fan-out's edge, where a buyer's bytes may surprise any library, and the door, where a fault
becomes problem details once."""


@rule(
    "try: ...\nexcept Exception: ...",
    "try: ...\nexcept (ValueError, BaseException): ...",
    "try: ...\nexcept: ...",
    "with suppress(Exception): ...",
    "while True:\n    async def turn():\n        try: ...\n        except Exception: ...",
    over=CODE,
)
def exceptions_are_caught_by_name(path: str, text: str) -> Breaches:
    """Everything may be caught at the edges, at the top of a background loop (a `while` around the
    `try`), and by who raises it again after tidying up."""
    excused = set(caught_in_loops(ast.parse(text))) if not path.startswith(EDGES) else None
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            raises = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
        elif isinstance(node, ast.Call) and name_of(node.func) == "suppress":
            kinds, raises = node.args, False
        else:
            continue
        is_broad = any(k is None or name_of(k) in {"Exception", "BaseException"} for k in kinds)
        if is_broad and not raises and excused is not None and node.lineno not in excused:
            yield f"{path}:{node.lineno}: catches everything"


def caught_in_loops(node: ast.AST, in_loop: bool = False) -> Iterator[int]:
    """The lines of handlers within a `while` of their own function."""
    if isinstance(node, ast.ExceptHandler) and in_loop:
        yield node.lineno
    in_loop = isinstance(node, ast.While) or (in_loop and not isinstance(node, Function))
    for child in ast.iter_child_nodes(node):
        yield from caught_in_loops(child, in_loop)


# --- money ----------------------------------------------------------------------------------------


@rule(
    "price_micros = 2.5",
    "price_micros = total / 3",
    "price_micros: float = total",
    "price_micros /= 3",
    "sale(fee_micros=-float(fee))",
    "self.fee_micros = 0.15 * price",
    "def pay(payout_micros: float): ...",
    "a_micros, b_micros = 1, 2.0",
    over=(*CODE, *TESTS),
)
def no_float_holds_money(path: str, text: str) -> Breaches:
    for node in ast.walk(ast.parse(text)):
        for name, annotation, value in given(node):
            if not name.endswith("_micros"):
                continue
            if annotation is not None and re.search(r"\bfloat\b", ast.unparse(annotation)):
                yield f"{path}:{annotation.lineno}: {name} is said to be a float"
            if value is not None and is_float(value):
                yield f"{path}:{value.lineno}: {name} is given a float"


Given = tuple[str, ast.expr | None, ast.expr | None]


def given(node: ast.AST) -> Iterator[Given]:
    """`(name, annotation, value)` of everything named here."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from unpacked(target, node.value)
    elif isinstance(node, ast.AnnAssign):
        yield name_of(node.target), node.annotation, node.value
    elif isinstance(node, ast.AugAssign):
        told = ast.BinOp(left=node.value, op=node.op, right=node.value)
        yield name_of(node.target), None, ast.copy_location(told, node)
    elif isinstance(node, ast.keyword):
        yield node.arg or "", None, node.value
    elif isinstance(node, ast.arg):
        yield node.arg, node.annotation, None


def unpacked(target: ast.expr, value: ast.expr) -> Iterator[Given]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, its in zip(target.elts, value.elts, strict=False):
            yield name_of(one), None, its
    else:
        yield name_of(target), None, value


def name_of(node: ast.expr | None) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def is_float(value: ast.expr) -> bool:
    """Whether the expression itself makes a float; what a called function is given is its own
    affair."""
    if isinstance(value, ast.Constant):
        return isinstance(value.value, float)
    if isinstance(value, ast.BinOp):
        return isinstance(value.op, ast.Div) or is_float(value.left) or is_float(value.right)
    if isinstance(value, ast.UnaryOp):
        return is_float(value.operand)
    if isinstance(value, ast.IfExp):
        return is_float(value.body) or is_float(value.orelse)
    return isinstance(value, ast.Call) and name_of(value.func) == "float"


# --- time, chance, settings -----------------------------------------------------------------------

CLOCKS = re.compile(r"(^|\.)(utcnow|today|now|monotonic|perf_counter|uuid[147]|getenv|urandom)$")


@rule("datetime.now(UTC)", "date.today()", "uuid.uuid4()", over=QUIET)
def the_quiet_floors_read_no_clock(path: str, text: str) -> Breaches:
    for call, name in calls(ast.parse(text)):
        if CLOCKS.search(name):
            yield f"{path}:{call.lineno}: {name}()"


@rule("os.environ['X']", "os.getenv('X')", "from exchange.config import Settings", over=PARTS)
def settings_stop_at_the_app(path: str, text: str) -> Breaches:
    for found in re.finditer(r"os\.(environ|getenv)|\bexchange\.config\b", text):
        yield f"{path}:{text[: found.start()].count(chr(10)) + 1}: {found.group()}"


@rule("time.sleep(1)", "await asyncio.sleep(0.1)", "await sleep(interval)", over=TESTS)
def no_test_sleeps(path: str, text: str) -> Breaches:
    """`asyncio.sleep(0)` gives way and is no sleep; far ends may be late on purpose. What plays a
    far end in real time, beside real processes, stands apart from the tests (`tests/e2e`)."""
    if path.startswith("tests/e2e/") and not Path(path).name.startswith("test_"):
        return
    for call, name in calls(ast.parse(text)):
        argument = ast.unparse(call.args[0]) if call.args else ""
        if name.rpartition(".")[2] == "sleep" and argument != "0":
            yield f"{path}:{call.lineno}: {name}({argument})"


SAID = {
    "asyncpg.connect": {"timeout"},
    "asyncpg.create_pool": {"min_size", "max_size"},
    "aiohttp.ClientSession": {"timeout", "connector", "cookie_jar"},
    "aiohttp.TCPConnector": {"limit", "limit_per_host"},
    "web.Application": {"client_max_size"},
}


@rule("asyncpg.connect(url)", "web.Application()", over=("exchange/",))
def library_options_are_said_out_loud(path: str, text: str) -> Breaches:
    for call, name in calls(ast.parse(text)):
        said = {keyword.arg for keyword in call.keywords}
        unsaid = SAID.get(name, set()) - said
        if unsaid and None not in said:
            yield f"{path}:{call.lineno}: {name} leaves {', '.join(sorted(unsaid))} unsaid"


LOGS = re.compile(r"(^|[._])(say|debug|info|warning|error|exception)$")


@rule(
    "try: ...\nexcept ValueError as bad:\n    say('failed', fault=f'{bad}')",
    "try: ...\nexcept ValueError as bad:\n    self._log.error('failed', fault=str(bad))",
    over=PARTS,
)
def no_log_line_carries_an_errors_message(path: str, text: str) -> Breaches:
    """Messages quote input, and input is somebody's data: log the type and the place."""
    for handler in ast.walk(ast.parse(text)):
        if not isinstance(handler, ast.ExceptHandler) or not handler.name:
            continue
        message = re.compile(rf"\{{{handler.name}[}}!:]|(str|repr)\({handler.name}\)")
        for call, name in calls(handler):
            told = " ".join(ast.unparse(part) for part in [*call.args, *call.keywords])
            if LOGS.search(name) and message.search(told):
                yield f"{path}:{call.lineno}: {name} tells the message of {handler.name}"


# --- facts ----------------------------------------------------------------------------------------

CHANGED_FACT = re.compile(
    r"\b(?:UPDATE|DELETE\s+FROM|TRUNCATE)\s+(?:TABLE\s+)?(?:ONLY\s+)?"
    r"(?:transfer|custody_event|attempt_event|audit|market_version)\b",
    re.IGNORECASE,
)


@rule(
    ("exchange/effects/sql/bad.sql", "UPDATE transfer SET amount_micros = 0"),
    ("exchange/effects/bad.py", "'delete from custody_event where true'"),
    over=("exchange/", "migrations/"),
    endings=(".py", ".sql"),
)
def facts_are_only_inserted(path: str, text: str) -> Breaches:
    for found in CHANGED_FACT.finditer(text):
        yield f"{path}:{text[: found.start()].count(chr(10)) + 1}: {found.group()}"


# --- words ----------------------------------------------------------------------------------------

UNFINISHED = "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"))
MACHINE = "|".join(f"/{place}/" for place in ("work", "root", r"home/\w+", "opt", r"Users/\w+"))
FORBIDDEN = re.compile(rf"\b({UNFINISHED})\b|(?<![\w.*-])({MACHINE})")
WRITTEN = (".py", ".sql", ".lua", ".toml", ".md", ".yaml", ".yml", ".html", ".ini", "Makefile")


@rule(
    "# TO" + "DO later",
    "path = '/wo" + "rk/main'",
    ("README.md", "see /ro" + "ot/notes"),
    over=("",),
    endings=(*WRITTEN, "Dockerfile", ".lock", ".ci/run"),
)
def no_unfinished_work_and_no_machines_paths(path: str, text: str) -> Breaches:
    for number, line in enumerate(text.splitlines(), 1):
        if found := FORBIDDEN.search(line):
            yield f"{path}:{number}: {found.group()}"


# --- the tree, and the breaches -------------------------------------------------------------------


@pytest.mark.parametrize("name", RULES)
def test_the_tree_keeps_the_rule(name: str) -> None:
    kept = RULES[name]
    found = [
        breach
        for path in files()
        if path.startswith(kept.over) and path.endswith(kept.endings)
        for breach in kept.check(path, (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("name", RULES)
def test_a_breach_of_the_rule_is_caught(name: str) -> None:
    for path, text in RULES[name].caught:
        assert list(RULES[name].check(path, text)), f"{name} does not catch:\n{text}"
