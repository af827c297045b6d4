"""Ranges of modules: their names, what they cost when they are off, and to whom a backward node belongs."""

import csv
import sys
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from tests.helpers import TINY, Run, assert_refused, batch, build
from util import profiling
from util.profiling import Section, annotate, from_flags
from util.profiling.from_flags import ProfilingOptions, build_phases
from util.profiling.module_names import range_name
from util.profiling.module_ranges import ModuleRanges


@pytest.mark.parametrize(
    ("path", "depth", "name"),
    [
        ("transformer.encoder.layers.2.self_attn", 4, "transformer.encoder.layers.2.self_attn"),
        ("transformer.encoder.layers.2.self_attn.out_proj", 4, "transformer.encoder.layers.2.self_attn"),
        ("transformer.encoder.layers.2.self_attn", 2, "transformer.encoder"),
        ("module.detr.backbone.0.body.layer3.5.conv1", 2, "backbone.layer3"),
        ("backbone.0.body.layer3.5.conv1", 4, "backbone.layer3.5.conv1"),
        ("backbone.0.body", 4, "backbone"),
        ("backbone.1", 4, "backbone.position_encoding"),
        ("class_embed", 4, "class_embed"),
        ("module", 4, ""),
    ],
)
def test_a_name_is_the_path_without_containers(path: str, depth: int, name: str) -> None:
    assert range_name(path, depth=depth) == name


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x)))


class Net(nn.Module):
    """Two blocks, of which the second is computed again in the backward pass."""

    def __init__(self, again: bool = True) -> None:
        super().__init__()
        self.one, self.two, self.again = Block(), Block(), again

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        return (checkpoint(self.two, x, use_reentrant=False) if self.again else self.two(x)).sum()


class Loss(nn.Module):
    def forward(self, value: Tensor) -> dict[str, Tensor]:
        with annotate("loss_square"):
            return {"loss": value.square()}


class Seen(TorchDispatchMode):
    """Notes where each operator was called."""

    def __init__(self, ranges: ModuleRanges | None = None) -> None:
        super().__init__()
        self.ranges, self.places, self.operators = ranges, [], Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators[str(func)] += 1
        if self.ranges:
            self.places.append((str(func), *self.ranges.here()))
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def unfollowed() -> Iterator[None]:
    yield
    profiling.follow_ranges(None)


@pytest.fixture
def nvtx(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names that a stand-in for the package nvtx is given; a closed range is a dot."""
    names: list[str] = []

    class Annotate:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> None:
            names.append(self.name)

        def __exit__(self, *error: object) -> None:
            names.append(".")

    monkeypatch.setitem(sys.modules, "nvtx", types.SimpleNamespace(annotate=Annotate))
    profiling._nvtx.cache_clear()
    yield names
    profiling._nvtx.cache_clear()


def test_a_backward_operator_belongs_to_the_module_whose_forward_made_it() -> None:
    net, loss = Net(), Loss()
    ranges = ModuleRanges(net, loss, depth=2, nvtx_in_backward=False)
    for _ in range(2):  # of a second step, the numbers go on
        ranges.begin_step(0)
        with Seen(ranges) as seen:
            loss(net(torch.ones(2, 3)))["loss"].backward()
        places = {(name.split(".")[1], *place) for name, *place in seen.places}
        modules = ("one.a", "one.b", "two.a", "two.b")
        assert {p for p in places if p[0] == "addmm"} == {("addmm", m, "forward") for m in modules} | {
            ("addmm", "two.a", "recompute")  # torch stops once the last tensor that backward needs is there
        }
        assert {p for p in places if p[0] == "mm"} == {("mm", m, "backward") for m in modules}
        assert ("relu", "two", "recompute") in places and ("threshold_backward", "one", "backward") in places
        assert ("pow", "loss_square", "forward") in places
        assert {p[1] for p in places if p[0] == "ones_like"} == {""}  # the root gradient is nobody's


def test_depth_one_still_names_what_is_computed_again() -> None:
    net, loss = Net(), Loss()
    ranges = ModuleRanges(net, loss, depth=1, nvtx_in_backward=False)
    with Seen(ranges) as seen:
        loss(net(torch.ones(2, 3)))["loss"].backward()
    assert ("aten.addmm.default", "two", "recompute") in seen.places


def test_nodes_of_the_backward_open_the_same_nvtx_ranges(nvtx: list[str]) -> None:
    net, loss = Net(again=False), Loss()
    ModuleRanges(net, loss, depth=2, nvtx_in_backward=True)
    total = loss(net(torch.ones(2, 3)))["loss"]
    assert [name for name in nvtx if name != "."] == "one one.a one.b two two.a two.b loss_square".split()
    nvtx.clear()
    total.backward()
    order = list(dict.fromkeys(name for name in nvtx if name != "."))
    assert order == ["loss_square", "two.b", "two", "two.a", "one.b", "one", "one.a"]
    assert nvtx[1::2] == ["."] * (len(nvtx) // 2)  # each is closed before the next opens


def test_nodes_that_outlive_a_step_open_one_range_in_the_next_too(nvtx: list[str]) -> None:
    net, loss = Net(again=False), Loss()
    ranges = ModuleRanges(net, loss, depth=2, nvtx_in_backward=True)
    # As DistributedDataParallel does: the nodes that add to the weights' gradients stay from step to step.
    kept = [weight.view_as(weight).grad_fn.next_functions[0][0] for weight in net.parameters()]
    counts = []
    for step in range(3):
        ranges.begin_step(step)
        total = loss(net(torch.ones(2, 3)))["loss"]
        nvtx.clear()
        total.backward()
        counts.append(len(nvtx))
    assert len(kept) == 8 and counts[0] == counts[1] == counts[2] > 16


@pytest.mark.slow
def test_a_compiled_module_has_a_range_around_it_and_none_inside(
    nvtx: list[str], capsys: pytest.CaptureFixture
) -> None:
    net, loss = Net(again=False), Loss()
    net.one.compile(backend="eager")
    ModuleRanges(net, loss, depth=2, nvtx_in_backward=False)
    net(torch.ones(2, 3))
    assert [name for name in nvtx if name != "."] == ["one", "two", "two.a", "two.b"]
    assert "not told apart inside: one\n" in capsys.readouterr().out


def test_without_the_flag_there_is_no_hook_and_with_it_no_operator_more() -> None:
    def operators(**flags: Any) -> tuple[Counter, int]:
        torch.manual_seed(0)
        model, criterion, _ = build()
        device = torch.device("cpu")
        phases = build_phases(ProfilingOptions(**flags), device=device, total_steps=20, parts=(model, criterion))
        samples, targets = batch()
        with Seen() as seen, phases.step():
            with phases.phase(Section.FORWARD):
                outputs = model(samples)
            with phases.phase(Section.LOSS):
                total = criterion.total(criterion(outputs, targets))
            with phases.phase(Section.BACKWARD):
                total.backward()
        return seen.operators, sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())

    plain, no_hooks = operators()
    ranged, hooks = operators(module_ranges=4)
    assert no_hooks == 0 < hooks and plain == ranged


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")
def test_the_command_line_counts_costs_and_memory_by_module(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_flags, "measure_ceilings", lambda script, path, device: (tmp_path / "roofs.toml", None))
    assert_refused(run(f"{TINY} --module_ranges 0"), "--module_ranges 0", "at least 1")
    assert_refused(run(f"{TINY} --module_ranges 2 --eval"), "--module_ranges", "--eval")
    few = f"{TINY} --epochs 1 --profile_warmup 0 --grad_checkpoint --module_ranges 4"
    code, out, err = run(f"{few} --count_costs {tmp_path / 'costs.csv'}")
    assert code == 0, err
    with open(tmp_path / "costs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    again = {row["module"] for row in rows if row["direction"] == "recompute"}
    assert "transformer.decoder.layers.1.self_attn" in again and not any(name.startswith("loss") for name in again)
    assert {"backward", "forward"} <= {row["direction"] for row in rows if row["module"] == "loss_boxes"}
    with open(tmp_path / "costs.memory.csv", newline="") as file:
        memory = {row["module"]: row for row in csv.DictReader(file)}
    head = memory["class_embed"]
    assert int(head["weight_bytes"]) == int(head["gradient_bytes"]) == int(head["optimizer_bytes"]) // 2 > 0
    # Two layers' outputs (L, B, Q, D) go into the class head, and are kept for its weight's gradient.
    assert int(head["saved_bytes"]) == 4 * 2 * 4 * 12 * 16
