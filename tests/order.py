"""The order of the tests for pytest-xdist, which gives each process a piece of the list, as many tests as the others.

A process that has none left takes from the end of another's. If a test of half a minute is among the last, the others
wait for it; with quick ones at the end of every piece all are done at about the same time.
"""

from collections.abc import Sequence
from itertools import chain, groupby

import pytest


def longest_first(items: Sequence[pytest.Item], pieces: int) -> list[pytest.Item]:
    """Return the tests with files that have slow ones at the beginning of each of so many pieces.

    Within these two kinds the order stays, as pytest has put it by the scope of fixtures.
    """
    slow: list[list[pytest.Item]] = []
    quick: list[pytest.Item] = []
    for _, tests in groupby(items, key=lambda item: item.path):
        file = list(tests)
        if any(test.get_closest_marker("slow") for test in file):
            slow.append(file)
        else:
            quick += file
    ordered: list[pytest.Item] = []
    for piece in range(pieces):
        # Every third file, and not the first third: files of one subject take about as long as each other.
        ordered += chain.from_iterable(slow[piece::pieces])
        room = max(0, len(items) * (piece + 1) // pieces - len(ordered))
        ordered += quick[:room]
        quick = quick[room:]
    return ordered
