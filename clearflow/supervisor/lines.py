"""What a task's process writes, cut into lines: progress bars folded, secrets masked.

A log record of the flow comes by another way than what is printed. So that it is shown where it
belongs, the process prints a mark at that moment, which nobody sees. Pure: bytes in, pieces out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

LONGEST = 16_384
SHORTEST_SECRET = 6  # shorter ones would be found in ordinary words
_MASK = "********"
_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH_STRING)", re.I)
_MARK = re.compile(rb"\0\x1e(\d{1,12})\x1f")
_BREAK = re.compile(rb"\n|" + _MARK.pattern)
_HALF_MARK = re.compile(rb"\0(\x1e\d{0,12})?\Z")

Piece = str | int


def mark(number: int) -> bytes:
    """What the process prints in the place of its log record with this number."""
    return b"\0\x1e%d\x1f" % number


def secrets_of(env: Mapping[str, str]) -> list[str]:
    """The values of an environment that must not be shown, by the names of their variables."""
    return [value for name, value in env.items() if _SECRET.search(name)]


def fold(text: str) -> str:
    """A line as a terminal shows it in the end: what a carriage return overwrote is gone."""
    return next((part for part in reversed(text.split("\r")) if part), "")


class Masks:
    """Values that must not be shown. One of several lines is hidden line by line."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: list[str] = []
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> None:
        parts = {p for p in secret.splitlines() if len(p) >= SHORTEST_SECRET}
        # One may be a part of another.
        self._secrets = sorted({*self._secrets, *parts}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return text

    def cut(self, data: bytes, at: int) -> int:
        """The last place up to `at` where no value and no character is cut into two."""
        for secret in self._secrets:
            value = secret.encode()
            found = data.find(value, max(0, at - len(value) + 1), at + len(value) - 1)
            if 0 <= found < at:
                at = found
        while at > 0 and data[at] & 0xC0 == 0x80:
            at -= 1
        return at

    @property
    def longest(self) -> int:
        return len(self._secrets[0].encode()) if self._secrets else 0


class Lines:
    """Cuts a stream of bytes into lines, and the numbers of records that belong between them."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self._rest = b""
        self._half_mark = b""

    def whole(self, chunk: bytes) -> bytes:
        """The chunk as far as it goes without the beginning of a mark, kept for the next one."""
        data = self._half_mark + chunk
        half = _HALF_MARK.search(data, max(0, len(data) - 16))
        self._half_mark = half[0] if half else b""
        return data[: half.start()] if half else data

    def take(self, chunk: bytes) -> list[Piece]:
        """The lines that are complete now. The chunk is one that `whole` gave."""
        data = self._rest + chunk
        pieces: list[Piece] = []
        if b"\0\x1e" in chunk:
            self._rest = self._split_at_marks(data, pieces)
        else:
            *lines, self._rest = data.split(b"\n")
            for line in lines:
                pieces += self._texts(line)
        while len(self._rest) > LONGEST + self._masks.longest:
            at = self._masks.cut(self._rest, LONGEST) or LONGEST
            pieces += self._texts(self._rest[:at])
            self._rest = self._rest[at:]
        return pieces

    def end(self) -> list[Piece]:
        """A last line without an end is a line too."""
        rest, self._rest, self._half_mark = self._rest + self._half_mark, b"", b""
        return list(self._texts(rest)) if rest else []

    def _split_at_marks(self, data: bytes, pieces: list[Piece]) -> bytes:
        line, at = b"", 0
        for found in _BREAK.finditer(data):
            line += data[at : found.start()]
            at = found.end()
            if found[1]:
                pieces.append(int(found[1]))
            else:
                pieces += self._texts(line)
                line = b""
        return line + data[at:]

    def _texts(self, raw: bytes) -> list[str]:
        text = fold(self._masks(raw.decode(errors="replace")))
        return [text[i : i + LONGEST] for i in range(0, len(text), LONGEST)] or [""]


def without_marks(chunk: bytes) -> bytes:
    return _MARK.sub(b"", chunk) if b"\0\x1e" in chunk else chunk
