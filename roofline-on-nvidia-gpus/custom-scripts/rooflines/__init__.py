"""The package behind the roofline scripts: profiles in, a tidy table, a summary in words and charts out.

It imports nothing of the project around it, so that a copy of this folder works anywhere. `read` takes files apart,
`columns` and `table` say what a row is, `roofs` and `analysis` judge it, `checks` and `summary` put it into words,
`charts` draws it; `collect` and `sweeps` run the profilers and the trainings that the files come from.
"""

from .errors import RoofError
from .files import atomic_file

__all__ = ["RoofError", "atomic_file"]
