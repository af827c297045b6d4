"""The order of tests: long ones first in every piece, none lost."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.order import longest_first


def item(file: str, name: int, slow: bool) -> Any:
    return SimpleNamespace(path=Path(file), name=name, get_closest_marker=lambda _: slow or None)


def test_every_piece_begins_with_files_that_have_slow_tests() -> None:
    # Files a to l of four tests each; c, d and k have one that is slow.
    items = [item(file, number, slow=file in "cdk" and number == 2) for file in "abcdefghijkl" for number in range(4)]
    for pieces, expected in ((1, "cdkabefghijl"), (3, "cabedfghkijl"), (12, "cdkabefghijl")):
        ordered = longest_first(items, pieces)
        assert "".join(test.path.name for test in ordered[::4]) == expected
        assert sorted(map(id, ordered)) == sorted(map(id, items))
        assert all(ordered[k].name == k % 4 for k in range(len(items)))


def test_without_slow_tests_the_order_stays() -> None:
    items = [item("a", number, slow=False) for number in range(5)]
    assert longest_first(items, 2) == items and longest_first([], 2) == []
