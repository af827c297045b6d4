"""Groups of queries: each is decoded, matched and scored as if it were alone, and the first one alone detects."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

import main
from models import build_model
from models.variants.groups import Blocks
from tests.helpers import SMALL

pytestmark = pytest.mark.usefixtures("narrow_resnet18")

KINDS = ("", "--local_attention --focal", "--queries dab", "--queries encoder --focal --local_attention")
IMAGES = [torch.randn(3, 96, 128, generator=torch.Generator().manual_seed(s)) for s in (0, 1)]
TARGETS = [
    {"labels": torch.tensor([1, 2]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.2, 0.3, 0.1, 0.1]])},
    {"labels": torch.tensor([], dtype=torch.int64), "boxes": torch.zeros(0, 4)},
]


def built(flags: str) -> tuple[Any, Any]:
    """Model and criterion of a small detector with these flags, its boxes refined."""
    torch.manual_seed(0)
    model, criterion, _ = build_model(main.parse_flags(f"{SMALL} {flags}".split()))
    nn.init.normal_(model.bbox_embed.layers[-1].weight, std=0.1)
    return model, criterion


def alone(flags: str, groups: Any, number: int) -> tuple[Any, Any]:
    """A detector without groups and its criterion, with the weights of a group of another."""
    model, criterion = built(flags)
    model.load_state_dict({name: w for name, w in groups.state_dict().items() if name in model.state_dict()})
    with torch.no_grad():
        for single, further in (("query_embed", "group_queries"), ("anchor_embed", "group_anchors")):
            if number and hasattr(model, single):
                rows = getattr(groups, further).weight.split(groups.num_queries)
                getattr(model, single).weight.copy_(rows[number - 1])
    return model, criterion


@pytest.mark.parametrize("kind", KINDS)
def test_each_group_answers_and_is_scored_as_if_alone(kind: str) -> None:
    model, criterion = built(f"{kind} --groups 2")
    outputs = model(IMAGES)
    losses = criterion(outputs, TARGETS)
    single = []
    for number, group in enumerate([outputs, *outputs["groups"]]):
        one, own_criterion = alone(kind, model, number)
        expected = one(IMAGES)
        for name in ("pred_logits", "pred_boxes"):
            assert_close(group[name], expected[name], atol=1e-5, rtol=1e-4)
            assert_close(group["aux_outputs"][0][name], expected["aux_outputs"][0][name], atol=1e-5, rtol=1e-4)
        single.append(own_criterion(expected, TARGETS))
    assert not torch.allclose(outputs["pred_boxes"], outputs["groups"][0]["pred_boxes"], atol=1e-3)
    assert set(losses) == set(single[0])
    for name in criterion.weight_dict:
        assert_close(losses[name], torch.stack([one[name] for one in single]).mean(), atol=1e-5, rtol=1e-4)


class Operators(TorchDispatchMode):
    """Keeps the names and shapes of all operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[tuple] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.ran.append((str(func), *(tuple(x.shape) for x in args if isinstance(x, torch.Tensor))))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", KINDS)
def test_inference_is_that_of_a_model_without_them_to_the_last_bit(kind: str) -> None:
    more = "--groups 3" if "--queries" not in kind else "--groups 3 --denoising 2"
    model = built(f"{kind} {more}")[0].eval()
    plain = alone(kind, model, 0)[0].eval()
    random = torch.get_rng_state()
    with torch.no_grad(), Operators() as ours:
        found = model(IMAGES)
    with torch.no_grad(), Operators() as theirs:
        expected = plain(IMAGES)
    assert ours.ran == theirs.ran and torch.equal(torch.get_rng_state(), random)
    assert found.keys() == expected.keys()
    assert torch.equal(found["pred_logits"], expected["pred_logits"])
    assert torch.equal(found["pred_boxes"], expected["pred_boxes"])


def test_the_weight_of_no_object_is_that_of_one_group_where_a_batch_is_a_part_of_a_step() -> None:
    model, criterion = built("--groups 2")
    outputs = model(IMAGES)
    whole = criterion(outputs, TARGETS)
    weight = criterion.class_weight(TARGETS, outputs["pred_logits"].shape[1])
    assert_close(criterion(outputs, TARGETS, num_boxes=2.0, class_weight=weight), whole)


def test_blocks_see_themselves_and_noised_ones_the_first() -> None:
    apart = Blocks([2, 2, 1, 1], matched=2).apart(torch.device("cpu"))
    assert apart is not None
    assert (~apart).int().tolist() == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]
    assert Blocks([3], matched=1).apart(torch.device("cpu")) is None
