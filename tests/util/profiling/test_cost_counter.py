"""Counting a step: which step, which section and module, and that the numbers are those of the model."""

import time

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from flags import get_args_parser
from models import build_model
from util.nested_tensor import NestedTensor
from util.profiling import Section, op_costs
from util.profiling.cost_counter import CostCounter, module_label
from util.profiling.phases import StepPhases


class Net(nn.Module):
    """A convolution, a linear layer, and a name for each."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x).mean((2, 3)))


def train(net: nn.Module, x: torch.Tensor, phases: StepPhases, steps: int = 3) -> None:
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    for _ in range(steps):
        with phases.step():
            with phases.phase(Section.FORWARD):
                out = net(x)
            with phases.phase(Section.LOSS):
                loss = out.square().sum()
            with phases.phase(Section.BACKWARD):
                loss.backward()
            with phases.phase(Section.OPTIMIZER_STEP):
                optimizer.step()
                optimizer.zero_grad()


@pytest.fixture
def counter() -> CostCounter:
    counter = CostCounter(warmup=1, device=torch.device("cpu"))
    phases = StepPhases([counter], stop_when_done=True)
    torch.manual_seed(0)
    train(Net(), torch.rand(2, 3, 10, 10), phases, steps=1)
    assert not counter.done and not counter.rows
    train(Net(), torch.rand(2, 3, 10, 10), phases, steps=2)
    assert counter.done and phases.finished
    return counter


def test_one_step_with_its_sections_and_modules(counter: CostCounter) -> None:
    found = {(row.section, row.module, row.label): row for row in counter.rows}
    macs = 2 * 8 * 8 * 8 * 27
    assert found["forward", "backbone", "convolution 3x3"].flops == 2 * macs
    assert found["backward", "backbone", "convolution 3x3 backward"].flops == 2 * macs, "the image needs no gradient"
    assert found["forward", "head", "addmm"].flops == 2 * 2 * 8 * 5
    assert sum(row.flops for row in counter.rows if row.section == "backward" and row.label == "mm") == 2 * (
        2 * 2 * 8 * 5
    )
    assert {row.module for row in counter.rows if row.section == "backward" and row.label == "mm"} == {"head"}
    weights = sum(parameter.numel() for parameter in Net().parameters())
    assert found["optimizer_step", "", "fused_adamw"].flops == 14 * weights
    assert found["optimizer_step", "", "fused_adamw"].calls == 1, "one step is counted, not two"
    assert found["loss", "", "pow"].shapes == "2x5"
    assert not counter.unknown


def test_counting_changes_no_result() -> None:
    results = []
    for watchers in ([], [CostCounter(warmup=0, device=torch.device("cpu"))]):
        torch.manual_seed(0)
        net = Net()
        train(net, torch.rand(2, 3, 10, 10), StepPhases(watchers))
        results.append(nn.utils.parameters_to_vector(net.parameters()))
    assert torch.equal(*results)


@pytest.mark.slow
def test_times_are_those_of_the_operators_not_of_the_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*call: object) -> op_costs.OpCost:
        time.sleep(0.02)
        return op_costs.op_cost(*call)

    monkeypatch.setattr("util.profiling.cost_counter.op_cost", slow)
    counter = CostCounter(warmup=0, device=torch.device("cpu"))
    began = time.perf_counter()
    train(Net(), torch.rand(1, 3, 8, 8), StepPhases([counter]), steps=1)
    whole = time.perf_counter() - began
    assert 0 < sum(row.seconds for row in counter.rows) < whole - 0.02 * sum(row.calls for row in counter.rows)
    assert all(row.seconds > 0 for row in counter.rows)


def test_operators_without_a_formula_are_named() -> None:
    counter = CostCounter(warmup=0, device=torch.device("cpu"))
    phases, x = StepPhases([counter]), torch.rand(9)
    with phases.step(), phases.phase(Section.LOSS):
        torch.special.bessel_j0(x)
    assert counter.unknown == ["aten.special_bessel_j0.default"]
    assert [(row.flops, row.bytes) for row in counter.rows] == [(0, 72)]


def test_after_a_failed_phase_nothing_is_counted_any_more() -> None:
    counter = CostCounter(warmup=0, device=torch.device("cpu"))
    phases = StepPhases([counter])
    with pytest.raises(ZeroDivisionError), phases.step(), phases.phase(Section.FORWARD):
        raise ZeroDivisionError
    torch.rand(3).add(1)
    counter.end_step()
    assert not counter.rows


@pytest.mark.parametrize(
    ("at_work", "label"),
    [
        (["Global"], ""),
        (["Global", "DETR"], "DETR"),
        (["Global", "DETR", "DETR.backbone", "DETR.backbone.0.body.conv1"], "backbone"),
        (["DETR", "DETR.transformer", "DETR.transformer.encoder.layers.3.linear1"], "transformer.encoder"),
        (["DistributedDataParallel", "DistributedDataParallel.module.transformer.decoder"], "transformer.decoder"),
        (["DETRsegm", "DETRsegm.detr.bbox_embed.layers.0"], "bbox_embed"),
        (["DETR.class_embed", "DETR"], "class_embed"),
        (["DETR", "DETR.bbox_embed.layers.0", "DETR.class_embed"], "class_embed"),
    ],
)
def test_module_labels(at_work: list[str], label: str) -> None:
    assert module_label(at_work) == label


@pytest.mark.slow
def test_a_forward_of_detr_r50_is_the_one_in_the_literature(monkeypatch: pytest.MonkeyPatch) -> None:
    """86 GMAC, as DETR's README has it, is the mean over images a little larger than 800 x 1066.

    The closed form here is ResNet-50's 4.09 GMAC at 224 x 224 times the area, and the transformer's products. On the
    meta device nothing is computed.
    """
    height, width, tokens, queries, d, hidden = 800, 1066, 25 * 34, 100, 256, 2048
    args = get_args_parser().parse_args(["--backbone_weights", "none", "--dropout", "0"])
    args.num_classes, args.device = 91, "cpu"
    model = build_model(args)[0].to("meta")
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *device: False)  # it does not know that device
    batch = NestedTensor(
        torch.empty(1, 3, height, width, device="meta"), torch.zeros(1, height, width, dtype=torch.bool, device="meta")
    )
    counter, theirs = CostCounter(warmup=0, device=torch.device("cpu")), FlopCounterMode(display=False)
    phases = StepPhases([counter])
    with phases.step(), phases.phase(Section.FORWARD), theirs:
        model(batch)
    gmac = sum(row.flops for row in counter.rows) / 2e9
    attention = [(tokens, tokens, 6), (queries, queries, 6), (queries, tokens, 6)]  # queries, keys, layers
    transformer = sum(layers * (2 * d * d * (n + m) + 2 * d * n * m) for n, m, layers in attention)
    transformer += 6 * (tokens + queries) * 2 * d * hidden + tokens * 2048 * d
    backbone = 4.09e9 * height * width / 224**2
    assert gmac == pytest.approx((backbone + transformer) / 1e9, rel=0.03)
    assert 80 < gmac < 86
    products = sum(row.flops for row in counter.rows if row.family in ("matrix product", "convolution"))
    assert products == theirs.get_total_flops(), "exactly as torch counts"
