"""Where each setting of a TOML text stands: path -> line.

`tomllib` reads the values and checks the syntax, but tells no lines. This walks the same text once
more, looking only at its shape (headers, keys, brackets, strings), and notes the line of each. The
text must have been read by `tomllib` before: of a text that is not TOML it says nonsense, though it
always ends.
"""

import re
from typing import Final

Path = tuple[str | int, ...]
"""Keys, and positions in arrays from 0."""

_SPACE: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK: Final = re.compile(r"[ \t]*")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_STRING: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|' r"'''.*?'{3,5}|" r'"(?:\\.|[^"\\\n])*"|' r"'[^'\n]*'", re.DOTALL
)
_PLAIN: Final = re.compile(r"[^,\]}\s#]*(?:[ \t]+[0-9:.Z+-]+)?")
_ESCAPE: Final = re.compile(r'\\(["\\])')


def lines_of(text: str) -> dict[Path, int]:
    """The line (from 1) of every table, key and array item."""
    return _Walk(text).document()


class _Walk:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.lines: dict[Path, int] = {}
        self._arrays: dict[Path, int] = {}
        self._line, self._counted = 1, 0

    def document(self) -> dict[Path, int]:
        table: Path = ()
        while self._skip(_SPACE) < len(self.text):
            before = self.at
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
            if self.at == before:
                break  # not TOML
        return self.lines

    def _header(self) -> Path:
        array = self.text.startswith("[[", self.at)
        start = self.at
        self.at += 2 if array else 1
        keys = self._keys()
        self._skip(_BLANK)
        self.at += 2 if array else 1
        path = self._resolved(keys)
        if array:
            number = self._arrays.get(path, -1) + 1
            self._arrays[path] = number
            path = (*path, number)
        for length in range(1, len(path) + 1):
            self._note(path[:length], start)
        return path

    def _resolved(self, keys: Path) -> Path:
        """The path of a header: a name of an array of tables means its latest table."""
        path: Path = ()
        for key in keys[:-1]:
            path = (*path, key)
            if path in self._arrays:
                path = (*path, self._arrays[path])
        return (*path, *keys[-1:])

    def _pair(self, table: Path) -> None:
        start = self.at
        keys = self._keys()
        for count in range(1, len(keys) + 1):
            self._note((*table, *keys[:count]), start)
        self._skip(_BLANK)
        if self.text.startswith("=", self.at):
            self.at += 1
        self._value((*table, *keys))

    def _keys(self) -> Path:
        keys: list[str] = []
        while True:
            self._skip(_BLANK)
            quoted = _STRING.match(self.text, self.at)
            found = quoted or _BARE_KEY.match(self.text, self.at)
            if found is None:
                return tuple(keys)
            self.at = found.end()
            keys.append(_ESCAPE.sub(r"\1", found[0][1:-1]) if quoted else found[0])
            self._skip(_BLANK)
            if not self.text.startswith(".", self.at):
                return tuple(keys)
            self.at += 1

    def _value(self, path: Path) -> None:
        self._skip(_SPACE)
        match self.text[self.at : self.at + 1]:
            case "[":
                self._items(path, "]")
            case "{":
                self._items(path, "}")
            case '"' | "'":
                self._skip(_STRING)
            case _:
                self._skip(_PLAIN)

    def _items(self, path: Path, end: str) -> None:
        self.at += 1
        number = 0
        while self._skip(_SPACE) < len(self.text) and self.text[self.at] != end:
            before = self.at
            if end == "}":
                self._pair(path)
            else:
                self._note((*path, number), self.at)
                self._value((*path, number))
            number += 1
            self._skip(_SPACE)
            if self.text.startswith(",", self.at):
                self.at += 1
            if self.at == before:
                return  # not TOML
        self.at += 1

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return self.at

    def _note(self, path: Path, at: int) -> None:
        self._line += self.text.count("\n", self._counted, at)
        self._counted = at
        self.lines.setdefault(path, self._line)
