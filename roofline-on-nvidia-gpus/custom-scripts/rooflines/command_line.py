"""Command lines of the scripts: both spellings of a flag, mistakes in one line, and what draws a single chart."""

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from .errors import RoofError


class FlagParser(argparse.ArgumentParser):
    """An argument parser that takes `--lr-drop` for `--lr_drop`, abbreviates nothing, and complains in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter, **options})

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]  # argparse's own overloads
        """Parse after giving every known flag the spelling it was declared with."""
        words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args([self._declared(word) for word in words], namespace)

    def parse_args(self, args=None, namespace=None):  # type: ignore[override]  # argparse's own overloads
        """Parse; a flag that is not known ends the program with the nearest one that is."""
        parsed, left = self.parse_known_args(args, namespace)
        if left:
            flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
            near = difflib.get_close_matches(left[0].partition("=")[0], flags, 1)
            self.error(f"unknown flag or value {left[0]}" + (f"; did you mean {near[0]}?" if near else ""))
        return parsed

    def error(self, message: str) -> NoReturn:
        """Print the message as one line, without the usage text, and exit with code 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")

    def _declared(self, word: str) -> str:
        name, equals, value = word.partition("=")
        # All hyphens to underscores, and the two at the beginning back.
        spelling = name.replace("-", "_").replace("__", "--", 1) if name.startswith("--") else name
        return spelling + equals + value if spelling in self._option_string_actions else word


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a mistake of the user, or of the disk, into one line on stderr and exit code 2."""
    try:
        yield
        sys.stdout.flush()
    except RoofError as error:
        print(error.line(), file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # `| head` has read enough; the interpreter's own flush at the end must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        print(f"{error.filename or 'error'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(RoofError.exit_code)


def draw_chart(
    draw: Callable[..., Any], description: str, *, suffix: str, arguments: Sequence[str] | None = None
) -> None:
    """Draw each run of the files on the command line: what `roofline.py` and `roofline_pu.py` do by themselves."""
    parser = FlagParser(description=description.split("\n\n")[0])
    parser.add_argument("paths", nargs="+", type=Path, help="kernels.csv, kernels.parquet, or Nsight Compute's CSVs")
    parser.add_argument("--run", help="draw only this run")
    parser.add_argument("--roofs", type=Path, help="roofs file (default: from the report, or gpus.toml)")
    parser.add_argument("--gpu", help="name of the GPU in gpus.toml")
    parser.add_argument("-o", "--output_dir", type=Path, default=Path(), help="folder for the charts (default: here)")
    args = parser.parse_args(arguments)
    from .charts.style import save  # after --help: pandas and matplotlib take their time
    from .read.inputs import load_runs

    with one_line_errors():
        loaded = load_runs(args.paths, roofs_file=args.roofs, gpu=args.gpu)
        if args.run and args.run not in loaded.runs:
            raise RoofError(f"--run {args.run}: there are {', '.join(loaded.runs)}")
        for run in [args.run] if args.run else loaded.runs:
            figure = draw(loaded.rows[loaded.rows["run"] == run], loaded.roofs[run], title=run)
            for path in save(figure, args.output_dir / f"{run}_{suffix}"):
                print(path)
