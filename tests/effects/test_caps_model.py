"""The scripts of caps against a small model of them, in any order Hypothesis can think of: told
twice, late, early, expired, flushed and loaded again."""

from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from redis import Redis

from exchange.effects import lua

pytestmark = pytest.mark.real

KEYS = ["{b:1}:c", "{b:1}:h", "{b:1}:x"]
LIMITS = {"1.0.t": 2, "1.1.t": 100, "2.0.t": 3}
TOKENS = st.sampled_from("abcd")
AMOUNTS = st.sampled_from([0, 1, 40, 60])
WINS = st.sets(st.sampled_from(sorted(LIMITS)), min_size=1)
LONG_MS, NOW_MS = 600_000, 0


class Model:
    """What the counters should be. `truth` is what the database would know."""

    def __init__(self) -> None:
        self.used: dict[str, int] = {}
        self.holds: dict[str, tuple[dict[str, int], str]] = {}  # token -> amounts, how it lasts
        self.ended: dict[str, str] = {}
        self.sold: dict[str, dict[str, int]] = {}
        self.undone: set[str] = set()
        self.live: dict[str, dict[str, int]] = {}

    def held(self, win: str) -> int:
        return sum(amounts.get(win, 0) for amounts, _ in self.holds.values())

    def sweep(self) -> None:
        self.holds = {token: hold for token, hold in self.holds.items() if hold[1] != "expired"}

    def reserve(self, token: str, amounts: dict[str, int], lasts: str) -> str:
        if token in self.ended:
            return "OVER"
        if token in self.holds:
            return "OK"
        self.sweep()
        for win, amount in amounts.items():
            if self.used.get(win, 0) + self.held(win) + amount > LIMITS[win]:
                return "FULL"
        self.holds[token] = (amounts, lasts)
        return "OK"

    def keep(self, token: str) -> str:
        if token in self.ended:
            return "DUP"
        if token not in self.holds:
            return "GONE"
        amounts, _ = self.holds[token]
        self.holds[token] = (amounts, "kept")
        self.intent(token)
        return "OK"

    def intent(self, token: str) -> None:
        """The database knows a live attempt; Valkey is told nothing."""
        if token in self.holds and token not in self.sold:
            self.live[token] = self.holds[token][0]

    def result(self, token: str) -> None:
        """The database knows a sale; Valkey is yet to be told."""
        if token in self.live:
            self.sold[token] = self.live.pop(token)

    def release(self, token: str) -> str:
        if token in self.ended:
            return "DUP"
        self.ended[token] = "R"
        self.live.pop(token, None)
        return "OK" if self.holds.pop(token, None) else "GONE"

    def commit(self, token: str, amounts: dict[str, int]) -> str:
        if self.ended.get(token) in ("C", "U"):
            return "DUP"
        self.ended[token] = "C"
        self.live.pop(token, None)
        self.sold[token] = amounts
        for win, amount in amounts.items():
            self.used[win] = self.used.get(win, 0) + amount
        return "OK" if self.holds.pop(token, None) else "LATE"

    def undo(self, token: str, amounts: dict[str, int]) -> str:
        if self.ended.get(token) in ("R", "U"):
            return "DUP"
        if token not in self.holds:
            for win, amount in amounts.items():
                self.used[win] = max(0, self.used.get(win, 0) - amount)
        self.holds.pop(token, None)
        self.live.pop(token, None)
        self.sold.pop(token, None)
        self.ended[token] = "U"
        self.undone.add(token)
        return "OK"

    def forget(self) -> None:
        self.used, self.holds, self.ended = {}, {}, {}

    def restore(self) -> None:
        """Sales and live attempts of the database; of holds it does not know, those running."""
        self.used = {}
        for amounts in self.sold.values():
            for win, amount in amounts.items():
                self.used[win] = self.used.get(win, 0) + amount
        self.ended |= dict.fromkeys(self.sold, "C") | dict.fromkeys(self.undone, "U")
        self.holds = {
            token: hold
            for token, hold in self.holds.items()
            if hold[1] == "running" and token not in self.ended
        } | {token: (amounts, "kept") for token, amounts in self.live.items()}


class CapScripts(RuleBasedStateMachine):
    """The real scripts, called as the exchange calls them, beside the model."""

    redis: Redis
    scripts: ClassVar[dict[str, Any]]

    def __init__(self) -> None:
        super().__init__()
        self.redis.flushall()
        self.model = Model()
        self.generation = 0
        self.sq = 0
        self.load()

    @rule(token=TOKENS, wins=WINS, amount=AMOUNTS, lasts=st.sampled_from(["running", "expired"]))
    def reserve(self, token, wins, amount, lasts):
        amounts = dict.fromkeys(sorted(wins), amount)
        ttl_ms = LONG_MS if lasts == "running" else NOW_MS
        windows = [text for win in amounts for text in (win, LIMITS[win], amount, 0)]
        answer = self.told("reserve", token, ttl_ms, LONG_MS, *windows)
        assert answer == self.model.reserve(token, amounts, lasts)

    @rule(token=TOKENS)
    def keep(self, token):
        assert self.settled(token, "keep") == self.model.keep(token)

    @rule(token=TOKENS)
    def release(self, token):
        assert self.settled(token, "release") == self.model.release(token)

    @rule(token=TOKENS, wins=WINS, amount=AMOUNTS)
    def commit(self, token, wins, amount):
        amounts = dict.fromkeys(sorted(wins), amount)
        assert self.settled(token, "commit", amounts) == self.model.commit(token, amounts)

    @rule(token=TOKENS, wins=WINS, amount=AMOUNTS)
    def undo(self, token, wins, amount):
        amounts = dict.fromkeys(sorted(wins), amount)
        assert self.settled(token, "undo", amounts) == self.model.undo(token, amounts)

    @rule(token=TOKENS)
    def intent(self, token):
        self.model.intent(token)

    @rule(token=TOKENS)
    def result(self, token):
        self.model.result(token)

    @rule()
    def restore(self):
        self.load()
        self.model.restore()

    @rule()
    def flush(self):
        """Until it is loaded anew, nothing is answered; then as a restore."""
        self.redis.flushall()
        for script, *args in (("reserve", "z", 1, 1), ("settle", "z", "commit", 1), ("counters",)):
            keys = KEYS if script == "counters" else [*KEYS, "{b:1}:t:z"]
            assert self.call(script, keys, self.generation, *args) == [b"REBUILD"]
        assert self.redis.keys() == []
        self.model.forget()
        self.load()
        self.model.restore()

    @rule()
    def read(self):
        """Reading sweeps what has expired."""
        answer = self.call("counters", KEYS, self.generation, *LIMITS)
        self.model.sweep()
        assert answer[1::3] == [win.encode() for win in LIMITS]
        assert [
            (int(used), int(held)) for used, held in zip(answer[2::3], answer[3::3], strict=True)
        ] == [(self.model.used.get(win, 0), self.model.held(win)) for win in LIMITS]

    @invariant()
    def counters_are_the_models(self):
        for win in LIMITS:
            used, held = self.redis.hmget(KEYS[0], f"u:{win}", f"h:{win}")
            assert int(used or 0) == self.model.used.get(win, 0)
            assert int(held or 0) == self.model.held(win)

    @invariant()
    def every_hold_is_known_and_every_key_expires(self):
        tokens = {token.decode() for token in self.redis.hkeys(KEYS[1])}
        assert tokens == set(self.model.holds)
        kept = {token for token, (_, lasts) in self.model.holds.items() if lasts == "kept"}
        assert {token.decode() for token in self.redis.zrange(KEYS[2], 0, -1)} == tokens - kept
        assert all(self.redis.pttl(key) > 0 for key in self.redis.keys("*"))

    # --- calling --------------------------------------------------------------------------------

    def settled(self, token: str, op: str, amounts: dict[str, int] | None = None) -> str:
        windows = [text for win, amount in (amounts or {}).items() for text in (win, amount, 0)]
        return self.told("settle", token, op, LONG_MS, *windows)

    def told(self, script: str, token: str, *args) -> str:
        keys = [*KEYS, f"{{b:1}}:t:{token}"]
        answer = self.call(script, keys, self.generation, token, *args)
        if len(answer) > 1 and isinstance(answer[1], int):
            assert answer[1] >= self.sq, "the sequence fell"
            self.sq = answer[1]
        return answer[0].decode()

    def load(self) -> None:
        self.generation += 1
        model, run = self.model, f"restore-{self.generation}"
        used: dict[str, int] = {}
        for amounts in model.sold.values():
            for win, amount in amounts.items():
                used[win] = used.get(win, 0) + amount
        items = [text for win in used for text in ("used", win, f"{used[win]}@0")]
        for token, amounts in model.live.items():
            held = ";".join(f"{win}={amount}@0" for win, amount in amounts.items())
            items += ["hold", token, held]
        ended = dict.fromkeys(model.sold, "C") | dict.fromkeys(model.undone, "U")
        marks = [f"{{b:1}}:t:{token}" for token in ended]
        pairs = [text for pair in ended.items() for text in pair]
        self.call("restore", KEYS, "begin", run, self.sq)
        self.call("restore", KEYS, "load", run, *items)
        self.call("restore", [*KEYS, *marks], "ended", run, LONG_MS, *pairs)
        assert self.call("restore", KEYS, "load", "another", *items) == [b"STALE"]
        sq = self.call("restore", KEYS, "open", run, self.generation, LONG_MS)[1]
        assert sq > self.sq or not self.sq
        self.sq = sq

    def call(self, script: str, keys: list[str], *args):
        if script not in self.scripts:
            self.scripts[script] = self.redis.register_script(lua.script(script))
        return self.scripts[script](keys, args)


def test_the_scripts_do_as_the_model_does_in_any_order(valkey_url):
    redis = Redis(unix_socket_path=unquote(urlsplit(valkey_url).path))
    machine = type("Machine", (CapScripts,), {"redis": redis, "scripts": {}})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
    redis.close()
