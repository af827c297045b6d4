"""Paths of the roofline scripts, which are programs to run: they stand alone, and nothing of the tree imports them."""

from pathlib import Path

_SCRIPTS = Path(__file__).parents[1] / "roofline-on-nvidia-gpus" / "custom-scripts"
#: Measures the machine's ceilings for --count_costs.
CEILINGS = _SCRIPTS / "ceilings.py"
#: Makes the page of `python -m util.profiling.report`.
MODULE_REPORT = _SCRIPTS / "module_report.py"
