"""What these scripts share with the project around them: its errors, flags, launchers and files that are never half written.

The folder is no package, so that `python postprocess.py` works as it always did; this module finds the project's root.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from util.dist.launch import Place, find_place
from util.errors import UserError
from util.flags import FlagParser
from util.runs.atomic import atomic_file

__all__ = ["ROOT", "FlagParser", "Place", "UserError", "atomic_file", "find_place"]
