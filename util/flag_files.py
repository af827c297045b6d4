"""Files of flags: `@recipes/cppe5.args` on a command line stands for the flags in that file.

A line holds one flag with its values, or another `@file`, looked for beside the file that names it. Words are split
and quoted as in a shell, and `#` begins a comment. Nothing is guessed: a value stays text until the flag's own type
reads it.
"""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

#: Where a word comes from that was typed.
COMMAND_LINE = "command line"
#: A word of a line: plain characters, escaped ones, and quoted stretches.
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""")


class FlagFileError(Exception):
    """A file of flags that cannot be read; the message names the file, and the line where there is one."""


class Word(NamedTuple):
    """A word of the command line, and where it comes from: `COMMAND_LINE`, or file:line."""

    text: str
    origin: str


def expand(typed: Sequence[str]) -> list[Word]:
    """Return the words with those of the files that they name in the places of `@file`.

    Words behind `--` are values and stay, as does `--name=@value`. Raises FlagFileError.
    """
    flags = typed[: typed.index("--")] if "--" in typed else typed
    words = [word for text in flags for word in _of_word(text, COMMAND_LINE, Path(), ())]
    return words + [Word(text, COMMAND_LINE) for text in typed[len(flags) :]]


def _of_word(text: str, origin: str, folder: Path, open_files: tuple[Path, ...]) -> Iterator[Word]:
    if not text.startswith("@"):
        yield Word(text, origin)
        return
    # Beside the file that names it, so that a folder of recipes can be moved.
    path = Path(os.path.normpath(folder / text[1:]))
    place = "" if origin == COMMAND_LINE else f"{origin}: "
    if any(path.resolve() == other.resolve() for other in open_files):
        chain = " -> ".join(map(str, [*open_files, path]))
        raise FlagFileError(f"{place}{text} leads back to itself: {chain}")
    for number, line in enumerate(_read(path, place), start=1):
        for word in words_of(line, f"{path}:{number}"):
            yield from _of_word(word, f"{path}:{number}", path.parent, (*open_files, path))


def words_of(line: str, place: str) -> list[str]:
    """Return the words of a line of a file, without quotes and comment. Raises FlagFileError for a bad line."""
    words, at = [], 0
    while at < len(line):
        if line[at].isspace():
            at += 1
        elif line[at] == "#":  # within a word it is a character, as in a shell
            break
        elif match := _WORD.match(line, at):
            # shlex takes the quotes off; of "" it returns no word, but an empty value is one.
            words += shlex.split(match[0]) or [""]
            at = match.end()
        else:
            raise FlagFileError(f"{place}: a quote is opened and not closed, or a backslash ends the line")
    more = [word for word in words[1:] if word.startswith("--")]
    if more:
        raise FlagFileError(f"{place}: one flag a line: {more[0]} belongs on a line of its own")
    if words and not words[0].startswith(("--", "@")):
        raise FlagFileError(f"{place}: a line begins with a flag, as --lr, or with @file, and not with {words[0]!r}")
    if words and words[0].startswith("@") and len(words) > 1:
        raise FlagFileError(f"{place}: {words[1]!r} follows {words[0]}, which stands alone on its line")
    return words


def _read(path: Path, place: str) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise FlagFileError(f"{place}@{path}: no such file of flags") from None
    except OSError as error:
        raise FlagFileError(f"{place}@{path}: cannot be read ({error.strerror or error})") from None
    except ValueError:  # of UTF-8, or a null in the name
        raise FlagFileError(f"{place}@{path}: not a text file") from None
