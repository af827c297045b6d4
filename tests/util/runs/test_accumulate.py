"""Batches that count as one: the large batch's gradient, losses and steps."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine import StepContext, train_one_epoch
from tests.helpers import CPU, TINY, assert_refused, batch, build
from util.nested_tensor import NestedTensor
from util.runs.accumulate import StepBatches
from util.runs.plan import steps_of

pytestmark = pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")


def test_steps_take_every_batch_once() -> None:
    steps = StepBatches(range(5), 2)
    assert list(steps) == [[0, 1], [2, 3], [4]] and len(steps) == 3
    assert list(StepBatches([], 2)) == []


def step(batches: list, accumulate: int, flags: str) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Losses and gradients of one step."""
    torch.manual_seed(0)
    model, criterion, _ = build(flags)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    gradients: dict[str, Tensor] = {}
    optimizer.register_step_pre_hook(
        lambda *_: gradients.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    )
    stats = train_one_epoch(model, criterion, batches, optimizer, CPU, 0, context=StepContext(accumulate=accumulate))
    return stats, gradients


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["", "--masks"])
def test_the_gradient_is_the_large_batchs(flags: str) -> None:
    samples, targets = batch(4)
    # Of the two halves one has three objects an image more, one of them beyond the queries: neither counts alone.
    more = {name: torch.cat([targets[0][name]] * 7) for name in ("labels", "boxes")}
    targets = [targets[0] | more, *targets[1:]]
    targets = [t | {"masks": torch.ones(len(t["labels"]), 64, 64, dtype=torch.bool)} for t in targets]
    parts = [(NestedTensor(samples.tensors[i : i + 2], samples.mask[i : i + 2]), targets[i : i + 2]) for i in (0, 2)]
    expected, got = step([(samples, targets)], 1, flags), step(parts, 2, flags)
    for name, value in expected[1].items():
        assert (got[1][name] - value).norm() <= 1e-5 * value.norm() + 1e-7, name
    weighted = [name for name in expected[0] if name.startswith(("loss", "cardinality"))]
    assert {n: got[0][n] for n in weighted} == pytest.approx({n: expected[0][n] for n in weighted}, rel=1e-5)


@pytest.mark.slow
def test_a_run_counts_windows_as_steps_and_resumes(run, tmp_path: Path) -> None:
    flags = f"{TINY} --batch_size 1 --accumulate 3 --output_dir {tmp_path}"
    code, out, err = run(f"{flags} --epochs 1")
    assert code == 0, err
    assert "Epoch: [0]  [3/3]" in out and "Epoch: [0]  [4/" not in out
    code, out, _ = run(f"{flags} --epochs 2 --resume auto")
    assert code == 0 and "resuming at epoch 1, step 3" in out
    assert [json.loads(line)["epoch"] for line in (tmp_path / "log.txt").read_text().splitlines()] == [0, 1]
    assert_refused(run(f"{TINY} --accumulate 0"), "--accumulate 0", "at least 1")
    assert steps_of(8, 3) == 3
