"""New runs from a checkpoint's weights: what fits, classes by name, queries by number."""

import pytest
import torch
from torch import nn

from models.config import Architecture, build_detector
from models.variants.detectors import AnchorDETR
from util.coco_classes import COCO_NAMES
from util.errors import CheckpointError
from util.runs.start import init_from

RED_GREEN = {1: "red", 2: "green"}


class Detector(nn.Module):
    """The names a DETR has, in small; row i of the head and of the queries holds `start` + i."""

    def __init__(self, classes: int = 3, queries: int = 5, *, start: float = 0, width: int = 4) -> None:
        super().__init__()
        self.body = nn.Linear(2, 4)
        self.query_embed = nn.Embedding(queries, width)
        self.class_embed = nn.Linear(width, classes + 1)
        with torch.no_grad():
            for weight in (self.query_embed.weight, self.class_embed.weight, self.class_embed.bias):
                weight.copy_((start + torch.arange(len(weight))).reshape(-1, *[1] * (weight.dim() - 1)))


class Segmentation(nn.Module):
    """A detector inside a model with masks."""

    def __init__(self, detr: nn.Module) -> None:
        super().__init__()
        self.detr = detr
        self.mask_head = nn.Linear(4, 1)


def checkpoint_of(model: nn.Module, names: dict[int, str] | None = None) -> dict:
    return {"model": dict(model.state_dict())} | ({} if names is None else {"class_names": names})


@pytest.mark.parametrize(
    ("ours", "biases", "words"),
    [
        (RED_GREEN, [0, 1, 2, 3], "classes copied by name under their ids red, green"),
        ({1: "green", 2: " Red"}, [0, 2, 1, 3], "copied by name under new ids green 2 -> 1,  Red 1 -> 2"),
        ({1: "blue", 2: "green"}, [0, 101, 2, 3], "under their ids green; classes that start anew: 1 blue"),
        ({1: "blue", 2: "pink"}, [0, 101, 102, 3], "no class has a known name; classes that start anew: 1 blue, 2"),
        ({0: "green"}, [2, 3], "copied by name under new ids green 2 -> 0"),
        ({1: "red", 5: "x"}, [0, 1, 102, 103, 104, 105, 3], "their ids red; classes that start anew: 5 x"),
        ({1: "red", 2: "red"}, [0, 1, 1, 3], "under their ids red and under new ids red 1 -> 2"),
    ],
    ids=["same", "exchanged", "one of them", "none, but as many", "fewer", "more", "two of one name"],
)
def test_classes_are_copied_by_name(ours: dict[int, str], biases: list[int], words: str) -> None:
    target = Detector(max(ours) + 1, start=100)
    started = init_from(target, checkpoint_of(Detector(), RED_GREEN), ours)
    assert target.class_embed.bias.tolist() == biases and target.class_embed.weight[:, 0].tolist() == biases
    assert words in started.describe("x.pth"), started.describe("x.pth")


@pytest.mark.usefixtures("narrow_resnet18")
@pytest.mark.parametrize("ours", [{1: "green"}, {1: "blue", 4: "red"}], ids=["fewer", "more"])
def test_noised_labels_and_proposals_move_with_their_classes(ours: dict[int, str]) -> None:
    """Each head of a real detector, and the contents by class of --denoising, whose last row is "no object"."""

    def detector(classes: int) -> AnchorDETR:
        small = {"backbone": "resnet18", "enc_layers": 1, "dec_layers": 1, "hidden_dim": 16, "nheads": 2}
        small |= {"dim_feedforward": 16, "num_queries": 4, "queries": "encoder", "focal": True, "denoising": 2}
        return build_detector(Architecture(**small, num_classes=classes))

    torch.manual_seed(0)
    source, target = detector(3), detector(max(ours) + 1)
    init_from(target, checkpoint_of(source, RED_GREEN), ours)
    theirs, mine = source.state_dict(), target.state_dict()
    sources = {id_: {"red": 1, "green": 2}.get(name) for id_, name in ours.items()} | {0: 0, -1: -1}
    names = [name for name in mine if "class_embed" in name]
    assert [name.split(".")[0] for name in names] == ["class_embed"] * 2 + ["proposals"] * 2 + ["denoising"]
    for name in names:
        for row, copied in sources.items():
            same = copied is not None and torch.equal(mine[name][row], theirs[name][copied])
            # The biases of the focal loss all start alike.
            assert same == (copied is not None) or name.endswith("bias"), (name, row)


def test_a_name_of_two_classes_is_that_of_the_same_id_or_of_none() -> None:
    source = checkpoint_of(Detector(), {1: "red", 2: "red"})
    target = Detector(start=100)
    init_from(target, source, {0: "red", 2: "red"})
    assert target.class_embed.bias.tolist() == [100, 101, 2, 3]


@pytest.mark.parametrize("count", [91, 250])
def test_published_files_have_the_names_of_coco(count: int) -> None:
    target = Detector(3, start=1000)
    started = init_from(target, checkpoint_of(Detector(count)), {1: "Car", 2: "helmet"})
    assert target.class_embed.bias.tolist() == [0, 3, 1002, count]
    assert f"(COCO's, as the file has {count} classes and no names) under new ids Car 3 -> 1;" in started.copied[0]
    target = Detector(91, start=1000)
    init_from(target, checkpoint_of(Detector(91)), COCO_NAMES)
    assert target.class_embed.bias.tolist() == list(range(92)), "the same data: nothing starts anew"


def test_a_head_of_unknown_classes_is_taken_by_ids_or_left() -> None:
    target = Detector(start=100)
    started = init_from(target, checkpoint_of(Detector()), RED_GREEN)
    assert target.class_embed.bias.tolist() == [0, 1, 2, 3] and "does not name its classes" in started.copied[0]
    target = Detector(7, start=100)
    started = init_from(target, checkpoint_of(Detector()), RED_GREEN)
    assert target.class_embed.bias[0] == 100 and not started.copied
    assert started.left[0] == "class_embed.weight: (4, 4) in the checkpoint, (8, 4) in this model"


@pytest.mark.parametrize(("theirs", "ours"), [(5, 3), (3, 5)])
def test_queries_are_copied_by_number(theirs: int, ours: int) -> None:
    target = Detector(queries=ours, start=100)
    started = init_from(target, checkpoint_of(Detector(queries=theirs), RED_GREEN), RED_GREEN)
    assert target.query_embed.weight[:, 0].tolist() == [0, 1, 2, *[103, 104][: ours - 3]]
    assert f"queries 1 to 3 of {ours} copied from {theirs}" in started.describe("x.pth")


def test_what_fits_is_loaded_and_the_rest_is_listed() -> None:
    source, target = Detector(classes=3), Segmentation(Detector(classes=3, start=100))
    checkpoint = checkpoint_of(source, RED_GREEN)
    checkpoint["model"]["extra"] = torch.ones(1)
    started = init_from(target, checkpoint, RED_GREEN)
    assert torch.equal(target.detr.body.weight, source.body.weight)
    assert "detr.query_embed.weight" in started.loaded and "detr.class_embed.weight" in started.loaded
    assert started.left == [
        "mask_head.weight: not in the checkpoint",
        "mask_head.bias: not in the checkpoint",
        "detr.extra: not in this model",
    ]


def test_another_width_leaves_head_and_queries_alone() -> None:
    target = Detector(queries=3, start=100, width=6)
    started = init_from(target, checkpoint_of(Detector(), RED_GREEN), RED_GREEN)
    assert target.class_embed.bias.tolist() == [100, 101, 102, 103] and not started.copied, "a bias alone means nothing"


def test_a_stranger_is_refused() -> None:
    with pytest.raises(CheckpointError, match="--init_from"):
        init_from(Detector(), {"model": {"a": torch.arange(3.0)}}, RED_GREEN)
