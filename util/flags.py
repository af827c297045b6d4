"""An argument parser that takes both spellings of a flag and answers a misspelt one in one line."""

import argparse
import difflib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from .dist.launch import launch_rank, let_rank_0_speak

#: Short words in flag names that people spell out; used only to find the nearest flag.
_SPELLED_OUT = {"lr": "learning_rate"}
_NEAR = 0.6


class Flags(argparse.Namespace):
    """Parsed flags that remember which of them were typed, apart from the values: `vars` does not show it."""

    __slots__ = ("given",)
    #: Names (dest) of the flags that were typed, also with their default value.
    given: frozenset[str]


class FlagParser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` for the commands of this project.

    * `--lr-drop 3`, `--lr_drop 3` and `--lr-drop=3` are the same flag; values are left as typed.
    * Flags are never abbreviated: a prefix that is one flag today may be two tomorrow.
    * Every mistake is one line on stderr, without the usage text, and exit code 2; an unknown flag is answered
      with the nearest known one.
    * What it returns is a `Flags`, which knows the flags that were typed.
    * Only rank 0 prints, so that eight processes do not give the same line eight times.

    A plain parser given in `parents` gets all of this too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    # typeshed overloads both by the type of the namespace; here it is a Flags unless one is given.
    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse as argparse does, after giving every known flag the spelling it was declared with."""
        typed = self._declared_spelling(sys.argv[1:] if args is None else args)
        parsed, left = super().parse_known_args(typed, Flags() if namespace is None else namespace)
        if isinstance(parsed, Flags):
            parsed.given = self._given(typed)
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

    def _declared_spelling(self, typed: Sequence[str]) -> list[str]:
        declared = {_canonical(flag): flag for flag in self._option_string_actions if flag.startswith("--")}
        result = list(typed)
        for i, word in enumerate(result):
            if word == "--":  # everything behind it is a value
                break
            # argparse never takes a word that names a flag as a value, so this cannot change one.
            name, equals, value = word.partition("=")
            if name.startswith("--") and _canonical(name) in declared:
                result[i] = declared[_canonical(name)] + equals + value
        return result

    def _given(self, typed: Sequence[str]) -> frozenset[str]:
        """Names of the flags in words of the declared spelling; exact, because a value never looks like a flag."""
        flags = typed[: typed.index("--")] if "--" in typed else typed
        actions = (self._option_string_actions.get(word.partition("=")[0]) for word in flags)
        return frozenset(action.dest for action in actions if action is not None)

    def _unknown(self, left: Sequence[str]) -> str:
        flags = [word.partition("=")[0] for word in left if word.startswith("-") and word != "--"]
        if not flags:
            return f"unexpected value {left[0]!r}: which flag does it belong to?"
        known = (flag for flag in self._option_string_actions if flag.startswith("--"))
        nearest = nearest_flag(flags[0], known)
        return f"unknown flag {flags[0]}" + (f"; did you mean {nearest}?" if nearest else "; --help lists the flags")


def nearest_flag(typed: str, known: Iterable[str]) -> str | None:
    """Return the flag of `known` that is most like `typed`, or None when none is near."""

    typed = typed.lower()

    def likeness(flag: str) -> float:
        plain = difflib.SequenceMatcher(None, _canonical(typed), _canonical(flag)).ratio()
        return max(plain, difflib.SequenceMatcher(None, _spelled_out(typed), _spelled_out(flag)).ratio())

    score, flag = max(((likeness(flag), flag) for flag in known), default=(0.0, None))
    return flag if score >= _NEAR else None


def _canonical(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")


def _spelled_out(flag: str) -> str:
    return "_".join(_SPELLED_OUT.get(word, word) for word in _canonical(flag).split("_"))
