"""Read the lists of a JSON object part by part: of a file of gigabytes only some megabytes are in memory at once.

A part ends at the last `}, {` of what has been read. That is a guess, which may lie in a text or in a list inside an
element; the parser is the judge. Parsing JSON never looks ahead, so that text is a whole list of elements, once it has
a bracket at both ends, exactly where the guess is right. Where it is wrong, brackets are counted.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import msgspec
import numpy as np

#: Between two elements that are objects.
GAP = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*(?=\{)")
BLANK = re.compile(rb"[ \t\r\n]*")
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
#: A number, or a word as `null`.
PLAIN = re.compile(rb"[^ \t\r\n,\]}]+")
ESCAPE = re.compile(rb"\\.", re.DOTALL)
#: The first window, in bytes from the end, in which a gap is looked for.
WINDOW = 4096
#: No element is as large: a quote that is missing makes the rest of a file one text.
MOST_BYTES = 1 << 30

_QUOTE, _COMMA = b'",'
#: By byte: 1 for what opens, -1 for what closes, 0 for the rest; and which bytes matter at all.
_STEP = np.zeros(256, np.int8)
_STEP[list(b"[{")], _STEP[list(b"]}")] = 1, -1
_MATTERS = _STEP != 0
_MATTERS[[_QUOTE, _COMMA]] = True


class NotStreamed(Exception):
    """The text is no object of lists, or one that only a parser of the whole understands; the message says why."""


class Parse(Protocol):
    """A parser of the elements of one list."""

    def __call__(self, text: bytes, *, patient: bool) -> list[Any]:
        """Parse a list; `patient` where it is certain to be whole, and may need a slower parser. Raises ValueError."""


class JsonStream:
    """The members of the JSON object that `blocks` of bytes make up."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        # What has been read and not yet been parsed begins at `_at` of `_text`.
        self._text, self._at = b"", 0

    def lists(self, parsers: Mapping[str, Parse]) -> Iterator[tuple[str, list[Any] | None]]:
        """Yield for each member that has a parser its name with None, then with some of its elements again and again.

        A name that comes twice begins anew, for the last one counts. Raises NotStreamed.
        """
        self._take(b"{")
        closed = self._peek() == b"}"
        while not closed:
            if self._peek() != b'"':
                raise NotStreamed("a name is missing")
            name = self._value()
            self._take(b":")
            if name in parsers:
                self._take(b"[")
                yield name, None
                for part in self._elements(parsers[name]):
                    yield name, part
            else:
                self._skip()
            closed = self._peek() == b"}"
            if not closed:
                self._take(b",")
        self._take(b"}")
        if self._skip_blank():
            raise NotStreamed("it goes on after its end")

    def _elements(self, parse: Parse) -> Iterator[list[Any]]:
        """Yield the elements of a list whose bracket has been taken, and take the bracket that closes it."""
        first = guessing = True
        while True:
            gap = self._last_gap() if guessing else None
            if gap is None and self._fill() and guessing:
                gap = self._last_gap()
            part = self._guessed(parse, gap)
            if part is None:
                cut, ended = self._boundary()
                part = self._certain(parse, cut, empty=first and ended)
                self._at = cut + 1
                if ended:
                    yield part
                    return
                # Elements hold lists of objects: the next guess would be as wrong.
                guessing = guessing and gap is None
            first = False
            yield part

    def _guessed(self, parse: Parse, gap: re.Match[bytes] | None) -> list[Any] | None:
        """Return the elements before a gap, and go behind it; None where it is no gap of this list."""
        if gap is None:
            return None
        try:
            part = parse(self._list_to(gap.start() + 1), patient=False)
        except (ValueError, RecursionError):
            return None
        self._at = gap.end()
        return part

    def _certain(self, parse: Parse, cut: int, *, empty: bool) -> list[Any]:
        text = self._list_to(cut)
        try:
            part = parse(text, patient=True)
        except (ValueError, RecursionError) as error:
            raise NotStreamed(str(error)) from None
        # A comma with nothing before or after it is no JSON, which the list without it does not show.
        if not part and not empty:
            raise NotStreamed("a comma without an element")
        return part

    def _list_to(self, cut: int) -> bytes:
        return b"".join((b"[", memoryview(self._text)[self._at : cut], b"]"))

    def _last_gap(self) -> re.Match[bytes] | None:
        """Return the last gap of what has been read, looked for from its end on."""
        window = WINDOW
        while True:
            start = max(self._at, len(self._text) - window)
            gap = None
            for gap in GAP.finditer(self._text, start):  # noqa: B007 - the last one is wanted
                pass
            if gap is not None or start == self._at:
                return gap
            window *= 16

    def _boundary(self) -> tuple[int, bool]:
        """Find the end of the list, with True, or else the last comma between its elements, with False."""
        while True:
            comma, end = find_boundary(memoryview(self._text)[self._at :])
            if end >= 0 or comma >= 0:
                return self._at + (end if end >= 0 else comma), end >= 0
            self._more()

    def _skip(self) -> None:
        """Pass over a value, which must be sound."""
        opening = self._peek()
        if opening not in (b"[", b"{"):
            self._value()
            return
        while (end := find_boundary(memoryview(self._text)[self._at + 1 :])[1]) < 0:
            self._more()
        self._checked(self._text[self._at : self._at + end + 2])
        self._at += end + 2

    def _value(self) -> Any:
        """Take a text, a number or a word."""
        pattern = STRING if self._peek() == b'"' else PLAIN
        # One that reaches to the end of what has been read may go on.
        while not (found := pattern.match(self._text, self._at)) or found.end() == len(self._text):
            if not found and pattern is PLAIN:
                raise NotStreamed("a value is missing")
            self._more()
        self._at = found.end()
        return self._checked(found[0])

    def _checked(self, text: bytes) -> Any:
        try:
            return msgspec.json.decode(text)
        except (ValueError, RecursionError):
            try:
                # Python's parser takes NaN and such.
                return json.loads(text)
            except (ValueError, RecursionError) as error:
                raise NotStreamed(str(error)) from None

    def _peek(self) -> bytes:
        """Go to the next byte that is not blank, and return it."""
        if not self._skip_blank():
            raise NotStreamed("it ends in the middle")
        return self._text[self._at : self._at + 1]

    def _take(self, expected: bytes) -> None:
        if self._peek() != expected:
            raise NotStreamed(f"{expected.decode()} is missing")
        self._at += 1

    def _skip_blank(self) -> bool:
        """Go to the next byte that is not blank; False at the end."""
        while True:
            found = BLANK.match(self._text, self._at)
            assert found is not None  # it matches nothing, too
            self._at = found.end()
            if self._at < len(self._text):
                return True
            if not self._fill():
                return False

    def _more(self) -> None:
        if len(self._text) - self._at > MOST_BYTES or not self._fill():
            raise NotStreamed("it ends in the middle")

    def _fill(self) -> bool:
        """Read at least as much as is left to be parsed, so that a large element is not looked at again and again."""
        left = memoryview(self._text)[self._at :]
        parts, read = [left], 0
        while read < max(1, len(left)):
            block = next(self._blocks, b"")
            if not block:
                break
            parts.append(memoryview(block))
            read += len(block)
        if read:
            self._text, self._at = b"".join(parts), 0
        return read > 0


def find_boundary(text: bytes | memoryview) -> tuple[int, int]:
    """Look into the inside of a list: the place of the last comma between its elements, and that of its end.

    `text` begins at an element; each place is -1 where there is none.
    """
    codes = np.frombuffer(text, np.uint8)
    if (codes == ord("\\")).any():
        # Escaped quotes end no text. Backslashes stand in texts only, so nothing else changes.
        codes = np.frombuffer(ESCAPE.sub(b"__", text), np.uint8)
    places = np.flatnonzero(_MATTERS[codes])  # (k,)
    codes = codes[places]
    # Odd from the quote that begins a text up to the one that ends it.
    outside = (np.cumsum(codes == _QUOTE) & 1) == 0
    places, codes = places[outside], codes[outside]
    depth = np.cumsum(_STEP[codes], dtype=np.int64)
    ends = np.flatnonzero(depth < 0)
    if len(ends):
        return -1, int(places[ends[0]])
    commas = places[(codes == _COMMA) & (depth == 0)]
    return (int(commas[-1]) if len(commas) else -1), -1
