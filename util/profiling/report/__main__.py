"""Report on a run's time by module, or on two runs and their differences: `module_report.py` of the roofline scripts.

python -m util.profiling.report RUN                 RUN: a folder with a trace, and costs where they were counted
python -m util.profiling.report RUN RUN_B           which modules RUN_B makes slower or faster
python -m util.profiling.report --help              all flags
"""

import subprocess
import sys

from training.roofline_scripts import MODULE_REPORT


def cli(arguments: list[str] | None = None) -> int:
    """Run the script, which imports nothing of this tree, and return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if not MODULE_REPORT.is_file():
        print(f"report: error: {MODULE_REPORT} is missing: it makes the page", file=sys.stderr)
        return 2
    return subprocess.run([sys.executable, str(MODULE_REPORT), *words], check=False).returncode


if __name__ == "__main__":
    sys.exit(cli())
