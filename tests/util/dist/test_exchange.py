"""Two processes exchange gradients in other ways, and share the optimizer's state: the same weights as ever."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import building
from engine import compute_losses
from tests.helpers import TINY, batch, build, rows
from tests.processes import command, start_two
from training.freeze import FrozenStart
from util.dist.distributed import Launch, init_distributed, shutdown
from util.dist.exchange import Exchange, gather_state
from util.nested_tensor import nested_tensor_from_tensor_list

pytestmark = pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")

#: Ways to exchange gradients, by name.
WAYS = {
    "plain": Exchange(),
    "buckets": Exchange(bucket_mb=0.01),
    "static": Exchange(static_graph=True),
    "bf16": Exchange(bf16=True),
    "all": Exchange(0.01, True, bf16=True),
}
#: A model with weights that training alone has, and with layers that are computed twice.
VARIANT = "--queries encoder --feature_map c4 --focal --denoising 2 --groups 2 --local_attention --grad_checkpoint"


def optimizer_for(model: nn.Module, *, sharded: bool) -> torch.optim.Optimizer:
    """AdamW as a run has it."""
    return building.build_optimizer(model, lr=1e-3, lr_backbone=1e-4, weight_decay=0.01, sharded=sharded)


def step(model: nn.Module, criterion: Any, optimizer: torch.optim.Optimizer, mine: slice) -> None:
    """Make a step of this process's part of a batch of four."""
    samples, targets = batch(4)
    _, losses = compute_losses(model, criterion, nested_tensor_from_tensor_list(samples.tensors[mine]), targets[mine])
    criterion.total(losses).backward()
    optimizer.step()


def go_on_from(saved: dict[str, Any], wrapped: nn.Module, criterion: Any, mine: slice, *, sharded: bool) -> dict:
    """Make a second step from a saved state, with an optimizer that has its state divided or not; return the weights."""
    # A copy: steps change the tensors that an optimizer has loaded.
    state = copy.deepcopy(saved)
    building.without_wrapper(wrapped).load_state_dict(state["weights"])
    optimizer = optimizer_for(wrapped, sharded=sharded)
    optimizer.load_state_dict(state["optimizer"])
    assert all(state["optimizer"]["state"].values())  # who loads it may need all of it again
    wrapped.zero_grad()
    step(wrapped, criterion, optimizer, mine)
    return copy.deepcopy(building.without_wrapper(wrapped).state_dict())


def train_frozen_first(launch: Launch, mine: slice, *, static: bool) -> dict:
    """Make a step with a frozen backbone and two without, in one of which rank 1 sees no object; return the weights."""
    torch.manual_seed(0)
    model, criterion, _ = build(VARIANT)
    wrapped = building.wrap_model(model, launch, Exchange(static_graph=static))
    optimizer, frozen = optimizer_for(wrapped, sharded=static), FrozenStart(wrapped, 1)
    for epoch in range(3):
        samples, targets = batch(4)
        if epoch == 1 and launch.rank == 1:
            targets = tuple(t | {"labels": t["labels"][:0], "boxes": t["boxes"][:0]} for t in targets)
        frozen.begin(epoch)
        mine_alone = nested_tensor_from_tensor_list(samples.tensors[mine])
        criterion.total(compute_losses(wrapped, criterion, mine_alone, targets[mine])[1]).backward()
        frozen.drop_gradients()
        optimizer.step()
        optimizer.zero_grad()
    return copy.deepcopy(model.state_dict())


def train_each_way(path: Path) -> None:
    """Make a step each way from the same weights, and a second with optimizers of either kind; save gradients, weights."""
    launch = init_distributed(device="cpu")
    found, mine = {}, [slice(0, 2), slice(2, 4)][launch.rank]
    for name, way in WAYS.items():
        torch.manual_seed(0)
        model, criterion, _ = build()
        wrapped = building.wrap_model(model, launch, way)
        optimizer = optimizer_for(wrapped, sharded=name == "static")
        step(wrapped, criterion, optimizer, mine)
        found[f"gradient {name}"] = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        found[f"weights {name}"] = copy.deepcopy(model.state_dict())
        if name == "static":
            gather_state(optimizer)
            state = {"weights": model.state_dict(), "optimizer": optimizer.state_dict()} if launch.rank == 0 else None
            saved = [copy.deepcopy(state)]
            torch.distributed.broadcast_object_list(saved)
            for sharded in (False, True):
                found[f"second {sharded}"] = go_on_from(saved[0], wrapped, criterion, mine, sharded=sharded)
    for static in (False, True):
        found[f"frozen first {static}"] = train_frozen_first(launch, mine, static=static)
    if launch.rank == 0:
        torch.save(found, path)
    shutdown()


@pytest.mark.slow
def test_every_way_gives_the_weights_of_the_plain_one(tmp_path: Path) -> None:
    for code, _, err in start_two(train_each_way, tmp_path / "found"):
        assert code == 0, err
    found = torch.load(tmp_path / "found", weights_only=True)
    # The plain way's gradient is that of one process with all images: test_main_processes.py.
    for what in ("gradient", "weights"):
        for name in ("buckets", "static"):
            torch.testing.assert_close(found[f"{what} {name}"], found[f"{what} plain"], rtol=0, atol=0)
    for name in ("second", "frozen first"):
        torch.testing.assert_close(found[f"{name} True"], found[f"{name} False"], rtol=0, atol=0)
    assert not torch.equal(found["second True"]["class_embed.weight"], found["weights static"]["class_embed.weight"])
    for name in ("bf16", "all"):
        for parameter, gradient in found["gradient plain"].items():
            rounded = found[f"gradient {name}"][parameter]
            # Each addend and their sum are rounded to 8 bits.
            torch.testing.assert_close(rounded, gradient, rtol=0, atol=2**-7 * float(gradient.abs().max()) + 1e-8)
    assert any(not torch.equal(found["gradient bf16"][n], g) for n, g in found["gradient plain"].items())


@pytest.mark.slow
def test_a_run_with_all_of_it_goes_on_without(tmp_path: Path) -> None:
    flags = f"{TINY} --batch_size 2 --train_size 4 --val_size 2 --output_dir {tmp_path} --on_nan rollback"
    more = "--bucket_mb 0.1 --static_graph --compress_gradients bf16 --zero --checkpoint_every 1 --warmup_worst_case"
    for code, _, err in start_two(command, f"{flags} {more} --epochs 1"):
        assert code == 0, err
    (code, out, err), _ = start_two(command, f"{flags} --resume auto --epochs 2")
    assert code == 0, err
    assert [row["global_step"] for row in rows(tmp_path)] == [1, 2] and "Epoch: [1]" in out
    state = torch.load(tmp_path / "checkpoint.pth", weights_only=True)["optimizer"]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    assert sorted(state["state"]) == numbers and all(float(s["step"]) == 2 for s in state["state"].values())


@pytest.mark.parametrize(
    ("flags", "message"),
    [("--static_graph --accumulate 2", "--accumulate 2"), ("--bucket_mb 0", "--bucket_mb 0: must be above 0")],
)
def test_what_cannot_work_is_refused(run: Any, flags: str, message: str) -> None:
    code, _, err = run(f"{TINY} {flags}")
    assert code == 2 and err.startswith("main.py: error:") and message in err and err.count("\n") == 1


def test_a_single_process_says_that_they_do_nothing(run: Any) -> None:
    flags = "--bucket_mb 5 --zero --compress_gradients bf16 --static_graph --max_steps 1 --train_only"
    code, out, _ = run(f"{TINY} {flags}")
    assert code == 0
    assert "--bucket_mb, --static_graph, --compress_gradients, --zero: of no effect in a single process\n" in out
