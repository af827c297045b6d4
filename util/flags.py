"""An argument parser that takes both spellings of a flag and answers a misspelt one in one line."""

import argparse
import difflib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NoReturn

from .completion import PrintCompletion
from .dist.launch import launch_rank, let_rank_0_speak
from .flag_files import COMMAND_LINE, FlagFileError, Word, expand
from .other_words import answer_to

#: Short words in flag names that people spell out; used only to find the nearest flag.
_SPELLED_OUT = {"lr": "learning_rate"}
_NEAR = 0.6


class Flags(argparse.Namespace):
    """Parsed flags that remember which of them were typed, apart from the values: `vars` does not show it."""

    __slots__ = ("given", "origins")
    #: Names (dest) of the flags that were typed, also with their default value.
    given: frozenset[str]
    #: Where each of them was typed last, by name: "command line", or file:line.
    origins: Mapping[str, str]


class FlagParser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` for the commands of this project.

    * `--lr-drop 3`, `--lr_drop 3` and `--lr-drop=3` are the same flag; values are left as typed.
    * Flags are never abbreviated: a prefix that is one flag today may be two tomorrow.
    * Every mistake is one line on stderr, without the usage text, and exit code 2; an unknown flag is answered
      with the nearest known one.
    * `@FILE` stands for the flags in a file (`flag_files`), and of two equal flags the later one wins.
    * Every switch can be turned back by a later flag: `--no_pad` after `--pad`, `--check` after `--no_check`.
    * What it returns is a `Flags`, which knows the flags that were typed, and where.
    * Only rank 0 prints, so that eight processes do not give the same line eight times.

    A plain parser given in `parents` gets all of this too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})
        if self.add_help:  # not a parent of others
            help_text = "print a script that completes the flags in a shell: source <(...), and end"
            self.add_argument("--print_completion", action=PrintCompletion, help=help_text)

    # typeshed overloads both by the type of the namespace; here it is a Flags unless one is given.
    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse as argparse does, after giving every known flag the spelling it was declared with."""
        self._add_opposites()
        try:
            # Files first: their flags may be spelt either way, too.
            words = self._declared_spelling(expand(sys.argv[1:] if args is None else args))
        except FlagFileError as error:
            self.error(str(error))
        self._check_lines(words)
        parsed, left = super().parse_known_args(
            [word.text for word in words], Flags() if namespace is None else namespace
        )
        if isinstance(parsed, Flags):
            parsed.origins = dict(self._origins(words))
            parsed.given = frozenset(parsed.origins)
        return parsed, left

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse as argparse does; a word left over ends the program with one line and exit code 2."""
        parsed, left = self.parse_known_args(args, namespace)
        if left:
            self.error(self._unknown(left))
        return parsed

    def error(self, message: str) -> NoReturn:
        """Print `message` as one line and exit with code 2."""
        let_rank_0_speak(os.environ)
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        if launch_rank(os.environ) == 0:
            super()._print_message(message, file)

    def _add_opposites(self) -> None:
        """Add what turns each switch back, unseen in the help; the default is the switch's own."""
        declared = {_canonical(flag) for flag in self._option_string_actions}
        for action in list(self._actions):
            if not isinstance(action, (argparse._StoreTrueAction, argparse._StoreFalseAction)):
                continue
            for name in (_canonical(flag) for flag in action.option_strings if flag.startswith("--")):
                opposite = name.removeprefix("no_") if name.startswith("no_") else f"no_{name}"
                if opposite not in declared:
                    # `const` is what the switch stores when it is typed.
                    kind = "store_false" if action.const else "store_true"
                    suppressed = argparse.SUPPRESS
                    self.add_argument(
                        f"--{opposite}", dest=action.dest, action=kind, default=suppressed, help=suppressed
                    )

    def _declared_spelling(self, typed: Sequence[Word]) -> list[Word]:
        declared = {_canonical(flag): flag for flag in self._option_string_actions if flag.startswith("--")}
        result = list(typed)
        for i, word in enumerate(result):
            if word.text == "--":  # everything behind it is a value
                break
            # argparse never takes a word that names a flag as a value, so this cannot change one.
            name, equals, value = word.text.partition("=")
            if name.startswith("--") and _canonical(name) in declared:
                result[i] = Word(declared[_canonical(name)] + equals + value, word.origin)
        return result

    def _check_lines(self, words: Sequence[Word]) -> None:
        """Refuse a line of a file that is no whole flag, by its place: read together, none of them has one."""
        for origin, line in groupby(words, key=lambda word: word.origin):
            if origin != COMMAND_LINE and self._subparsers is None:  # a subcommand has flags of its own
                self._check_line([word.text for word in line], origin)

    def _check_line(self, line: list[str], origin: str) -> None:
        action = self._option_string_actions.get(line[0].partition("=")[0])
        if action is None:
            self.error(f"{origin}: {self._unknown(line)}")
        alone = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        alone._add_action(action)
        try:
            left = alone.parse_known_args(line)[1]
        except argparse.ArgumentError as error:
            self.error(f"{origin}: {error}")
        if left:
            self.error(f"{origin}: {left[0]!r} is one value too many for {action.option_strings[0]}")

    def _origins(self, words: Sequence[Word]) -> Iterator[tuple[str, str]]:
        """Name of each flag in words of the declared spelling and its place; a value never looks like a flag."""
        for text, origin in words:
            if text == "--":
                break
            action = self._option_string_actions.get(text.partition("=")[0])
            if action is not None:
                yield action.dest, origin

    def _unknown(self, left: Sequence[str]) -> str:
        flags = [word.partition("=")[0] for word in left if word.startswith("-") and word != "--"]
        if not flags and re.fullmatch(r"\w+=.+", left[0]):  # as in Ultralytics' commands
            flags = [f"--{left[0].partition('=')[0]}"]
        if not flags:
            return f"unexpected value {left[0]!r}: which flag does it belong to?"
        seen = [flag for flag, a in self._option_string_actions.items() if a.help != argparse.SUPPRESS]
        known = [flag for flag in seen if flag.startswith("--")]
        if answer := answer_to(flags[0], known):
            return f"unknown flag {flags[0]}; {answer}"
        nearest = nearest_flag(flags[0], known)
        return f"unknown flag {flags[0]}" + (f"; did you mean {nearest}?" if nearest else "; --help lists the flags")


def nearest_flag(typed: str, known: Iterable[str]) -> str | None:
    """Return the flag of `known` that is most like `typed`, or None when none is near."""

    typed = typed.lower()

    def likeness(flag: str) -> float:
        plain = difflib.SequenceMatcher(None, _canonical(typed), _canonical(flag)).ratio()
        return max(plain, difflib.SequenceMatcher(None, _spelled_out(typed), _spelled_out(flag)).ratio())

    # Equal scores go to the last by name: the same answer in every run.
    score, flag = max(((likeness(flag), flag) for flag in known), default=(0.0, None))
    return flag if score >= _NEAR else None


def _canonical(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")


def _spelled_out(flag: str) -> str:
    return "_".join(_SPELLED_OUT.get(word, word) for word in _canonical(flag).split("_"))
