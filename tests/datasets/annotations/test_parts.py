"""Files that are read in parts give what they give at once, wherever they are cut."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.annotations import lists, read_annotations
from datasets.annotations.findings import Findings
from datasets.annotations.parse import PlainEntry
from util.errors import DatasetError

#: Texts that look like the gaps and the ends of lists, and like the ends of texts.
TEXTS = ["}, {", "}]", '"', "\\", 'a"}, {"', "\\\\", "\n", "ü\u20ac", "[[", "\\u007b"]


def outcome(path: Path, size: int | None, *, fall_back: bool = False, **asked: Any) -> tuple[Any, ...]:
    """All columns, or the error, and the findings, of a file that is read in parts of `size` bytes, or at once (None).

    Without `fall_back` a file that is not understood in parts is not read at once.
    """
    findings = Findings()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lists, "LEAST_STREAMED", 1 << 40 if size is None else 0)
        patched.setattr(lists, "PART_BYTES", size)
        patched.setattr(lists, "MOST_WHOLE", 1 << 40 if fall_back else -1)
        try:
            read = read_annotations(path, findings=findings, **asked)
        except DatasetError as error:
            return str(error), [finding.line() for finding in findings]
    columns = {name: (column.dtype, column.shape, column.tobytes()) for name, column in read.columns().items()}
    return columns, read.categories, read.listed, read.left_out, [finding.line() for finding in findings]


def numbers(values: Any) -> Any:
    """Mostly the values that belong there; sometimes what exporters write."""
    return st.one_of(values, values, values, st.sampled_from(["3", 3.0, None, True, "x", 1e300, -1, 2**70, [], {}]))


def entries(fields: dict[str, Any], most: int) -> Any:
    """A list of objects of which any field may be missing, and one may hold what nobody asks for."""
    odd = st.fixed_dictionaries({}, optional={"more": st.sampled_from([{"a": [{}, {}]}, [{"b": "}, {"}, {}], *TEXTS])})
    known = st.fixed_dictionaries({}, optional=fields)
    return st.lists(st.tuples(known, odd).map(lambda pair: pair[0] | pair[1]), max_size=most)


SIDES = st.integers(0, 60) | st.floats(0, 60)
FILES = st.fixed_dictionaries(
    {
        "images": entries(
            {
                "id": numbers(st.integers(0, 3)),
                "file_name": st.sampled_from(["a.png", "b.png", *TEXTS]),
                "height": numbers(st.just(40)),
                "width": numbers(st.just(60)),
            },
            4,
        ),
        "categories": st.just([{"id": 1, "name": "}, {"}, {"id": 2, "name": "two"}]),
        "annotations": entries(
            {
                "id": numbers(st.integers(0, 9)),
                "image_id": numbers(st.integers(0, 3)),
                "category_id": numbers(st.integers(1, 2)),
                "bbox": st.one_of(*[st.lists(SIDES, min_size=4, max_size=4)] * 3, st.lists(numbers(SIDES), max_size=4)),
                "area": numbers(st.integers(1, 99) | st.floats(1, 99)),
                "iscrowd": numbers(st.integers(0, 1)),
                "segmentation": st.sampled_from(
                    [[[1, 1, 9, 1, 9, 8.5]], [], None, {"size": [2, 2], "counts": [4]}, "x", [[0, 0, 1, 0, 1, 1]]]
                ),
                "attributes": st.sampled_from([{"rotation": 30}, {"occluded": False}, None]),
            },
            6,
        ),
        "info": st.sampled_from([{}, {"a": [1, {"b": "]}"}]}, "}", None, 1.5, [True]]),
    }
)


@given(
    data=FILES,
    order=st.permutations(["images", "annotations", "categories", "info"]),
    indent=st.sampled_from([None, 0, 3]),
    asked=st.sampled_from([{}, {"need_masks": True}, {"fixing": True}]),
    size=st.integers(1, 100) | st.just(1 << 16),
)
@settings(max_examples=25, deadline=None)
def test_files_read_in_parts_give_what_they_give_at_once(
    tmp_path_factory: pytest.TempPathFactory, data: Any, order: list[str], indent: int | None, asked: Any, size: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "parts.json"
    path.write_text(json.dumps({key: data[key] for key in order}, indent=indent))
    assert outcome(path, size, **asked) == outcome(path, None, **asked)


def test_every_cut_of_a_file_that_looks_like_its_own_gaps(write: Callable[[Any], Path], sound: dict[str, Any]) -> None:
    for number, entry in enumerate([*sound["annotations"], *sound["images"], *sound["categories"]]):
        entry["note"] = [{"of": TEXTS[number % len(TEXTS)]}, {}]
    path = write({"annotations": [], **sound, "more": {"annotations": [{}, {}]}})
    whole = outcome(path, None)
    assert whole[2] == 3
    assert all(outcome(path, size) == whole for size in [*range(1, 40), *range(40, 101, 7)])


@pytest.mark.parametrize(
    ("edit", "reads"),
    [
        (lambda text: text, True),
        (lambda text: text.replace('"area": 200', '"area": NaN'), True),
        (lambda text: text.replace('"images"', '"images": [], "images"'), True),
        (lambda text: text.replace("40", "1e400"), True),
        (lambda text: text.replace('"id": 6', '"id": 6, "note": "\\ud800"'), True),
        (lambda text: text + " \n", True),
        (lambda text: text + "x", False),
        (lambda text: text[:-2], False),
        (lambda text: text[: len(text) // 2], False),
        (lambda text: "", False),
        (lambda text: "[1]", False),
        (lambda text: "{}", False),
        (lambda text: text.replace("}, {", "}, , {"), False),
        (lambda text: text.replace("}]", "}, ]"), False),
        (lambda text: text.replace('"annotations": [', '"annotations": [3, '), False),
        (lambda text: text.replace('"images": [', '"images": {"a": ['), False),
        (lambda text: text.replace('"images"', '"pictures"'), False),
        (lambda text: text.replace('"images"', "images"), False),
        (lambda text: text.replace('"images"', '"more": {3}, "images"'), False),
        (lambda text: text.replace('"images"', '"more": , "images"'), False),
    ],
)
def test_odd_files_are_read_or_left_to_the_parser_of_the_whole(
    write: Callable[[Any], Path], sound: dict[str, Any], edit: Callable[[str], str], reads: bool
) -> None:
    path = write(sound)
    path.write_text(edit(path.read_text()))
    whole = outcome(path, None)
    assert isinstance(whole[0], str) != reads
    assert all(outcome(path, size, fall_back=not reads) == whole for size in (1, 7, 1 << 16))


def test_a_large_file_that_ends_in_the_middle_is_one_line(write: Callable[[Any], Path], sound: dict[str, Any]) -> None:
    """To parse it at once would take ten times its size."""
    path = write(sound)
    path.write_bytes(path.read_bytes()[:-40])
    assert outcome(path, 64) == (f"{path}: not a COCO annotation file (it ends in the middle)", [])


@pytest.mark.parametrize(
    ("odd", "strict"),
    [
        ({}, True),
        ({"area": 2.5, "attributes": None}, True),
        ({"bbox": [1, 2.0, 2**53 + 1, 4]}, True),
        ({"bbox": [1, 2.5, 10**400, 4]}, True),
        ({"id": 2**63}, True),
        ({"bbox": [0, 0, -0.0, 0], "segmentation": [[0.5, 0.5, 9, 1, 9, 8.5]]}, True),
        ({"area": "9.5"}, False),
        ({"category_id": 2.0}, False),
        ({"iscrowd": True}, False),
        ({"bbox": [1, 2, 3]}, False),
        ({"attributes": {"rotation": 30}}, False),
    ],
)
def test_the_strict_parser_and_packed_columns_change_nothing(
    write: Callable[[Any], Path], sound: dict[str, Any], odd: dict[str, Any], strict: bool
) -> None:
    """Most files pass it; what it refuses, or columns cannot hold, goes the way of all others."""
    sound["annotations"] = [dict(entry, **odd) if k == 1 else entry for k, entry in enumerate(sound["annotations"])]
    path = write(sound)
    parts = lists.JsonStream([path.read_bytes()]).lists(lists.make_parsers())
    assert any(isinstance(entry, PlainEntry) for _, part in parts for entry in part or ()) == strict
    whole = outcome(path, None)
    assert outcome(path, 1 << 16) == whole
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lists, "PATIENCE", 0)
        assert outcome(path, 1 << 16) == whole
