"""Stop `make` in one line where the interpreter is not one that `requires-python` in pyproject.toml allows.

Written for any Python 3, because an interpreter that is too old has to understand it.
"""

import os
import re
import sys


def allowed(text):
    """Return the first minor version of Python 3 that pyproject.toml allows, and the first beyond them."""
    low, high = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', text).groups()
    return int(low), int(high)


def complaint(text, version):
    """Return the line to print for a version such as (3, 9), or None where it is allowed."""
    low, high = allowed(text)
    if (3, low) <= tuple(version) < (3, high):
        return None
    names = " or ".join("3.{}".format(minor) for minor in range(low, high))  # noqa: UP032 - old interpreters read this
    return "make: this is Python {}.{}, needed is {}; name another: make PYTHON=python3.{} ...".format(  # noqa: UP032
        version[0], version[1], names, high - 1
    )


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "..", "pyproject.toml")) as project:
        sys.exit(complaint(project.read(), sys.version_info[:2]))
