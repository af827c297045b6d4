"""A checkpoint's classes against those of the data: refused where an id means two things, or matched by name."""

import pytest
import torch

from util.errors import UserError
from util.runs.class_names import DataClasses, match_classes, names_in, refuse_other_classes


def make_checkpoint(names: object, *, count: int = 4, **more: object) -> dict:
    """Return a checkpoint whose class head has `count` rows and one for "no object"; row i holds i."""
    rows = torch.arange(count + 1.0)
    head = {"class_embed.weight": rows[:, None].repeat(1, 2), "class_embed.bias": rows.clone()}
    return {"model": {"first.weight": torch.zeros(1), **head}, "class_names": names} | more


def make_classes(names: dict[int, str], *, learned: bool = False, count: int | None = None) -> DataClasses:
    return DataClasses(names, count or max(names) + 1, learned)


# ---- refusing


@pytest.mark.parametrize(
    "names",
    [{1: "red", 2: "green"}, {1: "Red ", 2: "green"}, {1: "red"}],
    ids=["same", "same but for case and spaces", "fewer"],
)
@pytest.mark.parametrize("learned", [False, True])
def test_ids_that_mean_the_same_pass(names: dict[int, str], learned: bool) -> None:
    checkpoint = make_checkpoint({1: "red", 2: "green"})
    assert refuse_other_classes(checkpoint, "x.pth", make_classes(names, learned=learned)) is None


@pytest.mark.parametrize(
    "names",
    [{1: "green", 2: "red"}, {1: "red", 3: "green"}, {0: "red", 1: "green"}, {1: "red", 2: "green", 3: "blue"}],
    ids=["exchanged", "another id", "from 0", "one more"],
)
def test_ids_that_mean_something_else_are_refused_naming_both_lists(names: dict[int, str]) -> None:
    with pytest.raises(UserError) as caught:
        refuse_other_classes(make_checkpoint({1: "red", 2: "green"}), "x.pth", make_classes(names))
    line = str(caught.value)
    assert line.startswith("x.pth: its classes are 1 red, 2 green, those of the data ") and "--match_classes" in line
    assert all(f"{id_} {name}" in line for id_, name in names.items())


def test_the_ways_out_are_those_that_there_are() -> None:
    checkpoint = make_checkpoint({1: "red"})
    with pytest.raises(UserError, match="--init_from x.pth starts a new run; if equal ids mean the same") as caught:
        refuse_other_classes(checkpoint, "x.pth", make_classes({1: "rouge"}, learned=True))
    assert "--match_classes" not in str(caught.value), "no name is in both"
    with pytest.raises(UserError, match="if equal ids mean the same, give them equal names") as caught:
        refuse_other_classes(checkpoint, "x.pth", make_classes({1: "rouge"}))
    assert "--init_from" not in str(caught.value), "an evaluation learns nothing"


def test_of_long_lists_the_classes_that_differ_are_named() -> None:
    names = {i: f"class {i}" for i in range(1, 91)}
    with pytest.raises(UserError, match=r"are 5 class 5, 6 class 6 \(of 90\), .*data 5 class 6, 6 class 5 \(of 90\)"):
        refuse_other_classes(make_checkpoint(names), "x.pth", make_classes(names | {5: "class 6", 6: "class 5"}))


@pytest.mark.parametrize("names", [None, {}, ["red", "green"], {"1": "red"}, {1: 2}])
def test_a_file_without_usable_names_goes_on(names: object) -> None:
    refuse_other_classes(make_checkpoint(names), "x.pth", make_classes({1: "green"}))
    assert names_in(make_checkpoint(names)) is None
    with pytest.raises(UserError, match="x.pth does not say the names"):
        match_classes(make_checkpoint(names), "x.pth", make_classes({1: "green"}))


# ---- matching


def rows_after(theirs: dict[int, str], ours: dict[int, str], *, count: int = 4) -> list[float]:
    """Return the rows of the head of `count` classes as they lie after matching, by their old numbers."""
    matched, _ = match_classes(make_checkpoint(theirs, count=count), "x.pth", make_classes(ours))
    assert matched["class_names"] == ours and matched["model"]["first.weight"] == 0
    return matched["model"]["class_embed.bias"].tolist()


def test_rows_of_the_head_move_to_the_ids_of_the_data() -> None:
    assert rows_after({1: "red", 2: "green"}, {1: "green", 2: "red"}) == [0, 2, 1, 3, 4]
    assert rows_after({1: "red", 2: "green"}, {2: "Green"}) == [0, 1, 2, 3, 4], "red keeps a row, and its share"
    assert rows_after({1: "red", 2: "green", 3: "blue"}, {1: "blue"}) == [0, 3, 1, 2, 4]


def test_a_class_that_nobody_knows_is_never_found() -> None:
    assert rows_after({1: "red"}, {5: "red"}, count=2) == [0, -100, -100, -100, -100, 1, 2]
    matched, line = match_classes(make_checkpoint({1: "red"}), "x.pth", make_classes({1: "blue", 2: "red"}))
    assert line == "--match_classes: red 1 -> 2; never found, for the checkpoint lacks them: 1 blue"
    assert matched["model"]["class_embed.weight"][:, 0].tolist() == [0, 0, 1, 2, 3, 4]
    assert matched["model"]["class_embed.bias"].tolist() == [0, -100, 1, 2, 3, 4]


def test_the_checkpoint_itself_stays_as_it_is() -> None:
    checkpoint = make_checkpoint({1: "red", 2: "green"})
    match_classes(checkpoint, "x.pth", make_classes({1: "green", 2: "red"}))
    assert checkpoint["model"]["class_embed.bias"].tolist() == [0, 1, 2, 3, 4]


def test_averages_of_the_optimizer_move_along() -> None:
    parameters = [torch.zeros(1), torch.zeros(5, 2), torch.zeros(5)]
    averages = {"step": torch.tensor(3.0), "exp_avg": torch.arange(5.0), "exp_avg_sq": torch.arange(5.0)}
    state = {2: averages}
    optimizer = {"state": state, "param_groups": [{"params": list(range(len(parameters)))}, {"params": []}]}
    checkpoint = make_checkpoint({1: "red", 2: "green"}, optimizer=optimizer)
    matched, _ = match_classes(checkpoint, "x.pth", make_classes({1: "green", 2: "red"}, learned=True))
    moved = matched["optimizer"]["state"][2]
    assert moved["exp_avg"].tolist() == moved["exp_avg_sq"].tolist() == [0, 2, 1, 3, 4] and moved["step"] == 3
    optimizer["param_groups"][0]["params"] = [0]  # the detector is frozen, and its head not among the parameters
    matched, _ = match_classes(checkpoint, "x.pth", make_classes({1: "green", 2: "red"}, learned=True))
    assert matched["optimizer"] == optimizer


@pytest.mark.parametrize(
    ("theirs", "ours", "learned", "words"),
    [
        ({1: "red"}, {1: "blue"}, False, "does not know 1 blue; its classes are 1 red"),
        ({1: "red"}, {1: "red", 2: "blue"}, True, "does not know 2 blue.*--init_from x.pth"),
        ({1: "red", 2: "red"}, {1: "red"}, False, "x.pth has two classes 'red': 1 and 2"),
        ({1: "red"}, {1: "red", 2: "RED"}, False, "the data has two classes 'RED': 1 and 2"),
    ],
)
def test_names_that_cannot_be_matched_are_refused(theirs: dict, ours: dict, learned: bool, words: str) -> None:
    with pytest.raises(UserError, match=words):
        match_classes(make_checkpoint(theirs), "x.pth", make_classes(ours, learned=learned))
