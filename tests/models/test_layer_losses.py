"""Losses of several decoder layers at once: to the last bit those of each layer by itself, gradients too."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.criterion import SetCriterion
from models.matcher import HungarianMatcher
from models.variants.extra_queries_loss import ExtraQueriesCriterion
from models.variants.set_loss import FocalCriterion, FocalMatcher

CLASSES, KINDS = 5, ("labels", "boxes", "cardinality")
WEIGHTS = {f"loss_{name}{i}": 1.0 for name in ("ce", "bbox", "giou") for i in ("", "_0", "_1", "_2", "_enc")}


def predictions(queries: int, generator: torch.Generator) -> dict[str, Tensor]:
    """One layer's answers for three images, as leaves."""
    logits = torch.randn(3, queries, CLASSES + 1, generator=generator)
    boxes = torch.rand(3, queries, 4, generator=generator) * 0.4 + 0.2
    return {"pred_logits": logits.requires_grad_(), "pred_boxes": boxes.requires_grad_()}


def batch(*, layers: int = 4, cells: int = 0) -> tuple[dict[str, Any], list[dict[str, Tensor]]]:
    """Outputs of layers of 9 queries, with `cells` also of an encoder's proposals, and targets; one image is empty."""
    generator = torch.Generator().manual_seed(1)
    outputs: dict[str, Any] = predictions(9, generator)
    outputs["aux_outputs"] = [predictions(9, generator) for _ in range(layers - 1)]
    if cells:
        outputs["enc_outputs"] = predictions(cells, generator)
    targets = [
        {
            "labels": torch.randint(CLASSES, (count,), generator=generator),
            "boxes": torch.rand(count, 4, generator=generator) * 0.4 + 0.2,
        }
        for count in (3, 0, 5)
    ]
    return outputs, targets


def one_by_one(cls: type[SetCriterion]) -> type[SetCriterion]:
    """A class with a `get_loss` of its own, which is therefore asked for each layer."""

    class OneByOne(cls):
        calls = 0

        def get_loss(self, *args: Any, **named: Any) -> dict[str, Tensor]:
            self.calls += 1
            return super().get_loss(*args, **named)

    return OneByOne


class AnotherNumberInEachLayer(nn.Module):
    """A matcher that pairs the first object with one query more in every layer."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, outputs: dict, targets: list) -> list:
        self.calls += 1
        queries = torch.arange(self.calls)
        return [(q := queries[: len(t["labels"]) * 99], torch.zeros_like(q)) for t in targets]


def losses_and_gradients(made: SetCriterion, *, cells: int, class_weight: float | None) -> dict[str, Tensor]:
    """Every loss, and the gradients that the sum of them gives to every layer."""
    outputs, targets = batch(cells=cells)
    losses = made(outputs, targets, class_weight=class_weight)
    made.total(losses).backward()
    layers = [outputs, *outputs["aux_outputs"], *([outputs["enc_outputs"]] if cells else [])]
    return losses | {
        f"{name} {i}": layer[name].grad for i, layer in enumerate(layers) for name in ("pred_logits", "pred_boxes")
    }


@pytest.mark.parametrize("class_weight", [None, 7.5])
@pytest.mark.parametrize(
    ("cls", "matcher", "cells"),
    [
        (SetCriterion, HungarianMatcher, 0),
        (SetCriterion, AnotherNumberInEachLayer, 0),
        (FocalCriterion, FocalMatcher, 0),
        (FocalCriterion, FocalMatcher, 14),  # a second group: other numbers of queries
        (ExtraQueriesCriterion, HungarianMatcher, 0),
    ],
)
def test_layers_together_lose_what_they_lose_one_by_one(
    cls: type[SetCriterion], matcher: type[nn.Module], cells: int, class_weight: float | None
) -> None:
    alone = one_by_one(cls)(CLASSES, matcher(), WEIGHTS, 0.1, KINDS)
    expected = losses_and_gradients(alone, cells=cells, class_weight=class_weight)
    got = losses_and_gradients(cls(CLASSES, matcher(), WEIGHTS, 0.1, KINDS), cells=cells, class_weight=class_weight)
    assert alone.calls == 3 * (4 + bool(cells))
    assert list(got) == list(expected), "in the same order, for the sum rounds by it"
    for name, value in expected.items():
        assert torch.equal(got[name], value), name


def test_a_single_layer_is_a_group_too() -> None:
    outputs, targets = batch(layers=1)
    losses = SetCriterion(CLASSES, HungarianMatcher(), WEIGHTS, 0.1, KINDS)(outputs, targets)
    assert list(losses) == ["loss_ce", "class_error", "loss_bbox", "loss_giou", "cardinality_error"]


def test_a_method_that_somebody_replaced_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the class, as scripts do it, and on an object."""
    outputs, targets = batch()

    def nothing(*args: Any, **named: Any) -> dict[str, Tensor]:
        return {"loss_giou": torch.tensor(0.25)}

    made = SetCriterion(CLASSES, HungarianMatcher(), WEIGHTS, 0.1, KINDS)
    made.loss_boxes = nothing
    assert made(outputs, targets)["loss_giou_2"] == 0.25
    monkeypatch.setattr(SetCriterion, "loss_boxes", nothing)
    losses = SetCriterion(CLASSES, HungarianMatcher(), WEIGHTS, 0.1, KINDS)(outputs, targets)
    assert losses["loss_giou"] == losses["loss_giou_1"] == 0.25 and "loss_bbox" not in losses


def test_other_losses_of_a_subclass_are_asked_layer_by_layer() -> None:
    """As the original does, for those that hand something on from one to the next."""
    seen = []

    class Own(SetCriterion):
        def loss_boxes(self, outputs, targets, indices, num_boxes):
            seen.append(("boxes", outputs["pred_boxes"].shape[1], len(indices[0][0])))
            return super().loss_boxes(outputs, targets, indices, num_boxes)

        def loss_cardinality(self, outputs, targets, indices, num_boxes):
            seen.append("cardinality")
            return super().loss_cardinality(outputs, targets, indices, num_boxes)

    outputs, targets = batch(layers=2)
    losses = Own(CLASSES, HungarianMatcher(), WEIGHTS, 0.1, KINDS)(outputs, targets)
    assert seen == [("boxes", 9, 3), "cardinality"] * 2
    expected = SetCriterion(CLASSES, HungarianMatcher(), WEIGHTS, 0.1, KINDS)(outputs, targets)
    assert list(losses) == list(expected) and all(torch.equal(losses[name], expected[name]) for name in expected)
