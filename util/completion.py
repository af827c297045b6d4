"""Completion of flags in a shell: `source <(python main.py --print_completion bash)`.

The script comes from shtab. It completes `main.py`; what is added here completes `python main.py` as well.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from .choices import SHELLS

_PYTHON = """
# `python SCRIPT ...`: complete as SCRIPT does, once its own completion is loaded; else files.
_flags_of_python_script() {
  local script="${COMP_WORDS[1]##*/}"
  local complete_script="_shtab_${script//[^[:word:]]/_}"
  if (( COMP_CWORD > 1 )) && declare -F "$complete_script" > /dev/null; then
    COMP_WORDS=("${COMP_WORDS[@]:1}")
    COMP_CWORD=$((COMP_CWORD - 1))
    "$complete_script"
  fi
}
complete -o bashdefault -o default -F _flags_of_python_script python python3
"""


class PrintCompletion(argparse.Action):
    """A flag that prints a parser's completion script and ends the program."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, choices=SHELLS, default=argparse.SUPPRESS, **more)

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Print the script; without shtab one line says what to install."""
        try:
            import shtab
        except ImportError:
            parser.error(f"{option} {values}: shtab is missing: pip install shtab")
        # argparse does not know what is a path; our metavars say it.
        for action in parser._actions:
            if action.metavar in ("FILE", "DIR") and action.choices is None:
                action.complete = shtab.FILE if action.metavar == "FILE" else shtab.DIRECTORY  # type: ignore[attr-defined]
        print(shtab.complete(parser, values) + (_PYTHON if values == "bash" else ""))
        parser.exit()
