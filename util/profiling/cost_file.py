"""The name of the file that --count_costs writes, checked before anything runs (and before torch is loaded)."""

from importlib.util import find_spec
from pathlib import Path

from ..errors import UserError

SUFFIXES = (".csv", ".parquet")


def check_cost_file(path: str) -> None:
    """Refuse, before anything runs, a file that could not be written. Raises UserError."""
    file = Path(path)
    if file.suffix not in SUFFIXES:
        raise UserError(f"--count_costs {path}: the name must end in {' or '.join(SUFFIXES)}")
    if file.is_dir():
        raise UserError(f"--count_costs {path}: is a folder, not a file")
    if not file.parent.is_dir():
        raise UserError(f"--count_costs {path}: the folder {file.parent} does not exist")
    if file.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise UserError(f"--count_costs {path}: Parquet needs pyarrow (pip install pyarrow); a name in .csv does not")
