"""The learning rate as a function of the step."""

import pytest
import torch

from util.runs.schedule import build_lr_scheduler, lr_factor

RUN = dict(total_steps=100, steps_per_epoch=10, lr_drop=4, warmup_steps=0)


def test_step_drops_to_a_tenth_every_lr_drop_epochs_as_in_detr() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.StepLR(optimizer, 4)
    for epoch in range(10):
        assert lr_factor(epoch * 10 + 3, schedule="step", **RUN) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_onecycle_equals_torchs() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=100, cycle_momentum=False)
    for step in range(100):
        assert lr_factor(step, schedule="onecycle", **RUN) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_cosine_falls_from_one_to_zero_after_a_linear_warm_up() -> None:
    run = RUN | {"warmup_steps": 9, "schedule": "cosine"}
    factors = [lr_factor(step, **run) for step in range(101)]
    assert factors[0] == pytest.approx(0.1) and factors[4] == pytest.approx(0.5, abs=0.01)
    assert max(factors) > 0.97 and factors[50] == pytest.approx(0.5) and factors[100] == pytest.approx(0)


def test_onecycle_warm_up_can_be_given() -> None:
    factors = [lr_factor(step, schedule="onecycle", **RUN | {"warmup_steps": 5}) for step in range(100)]
    assert factors.index(max(factors)) == 5


@pytest.mark.parametrize("schedule", ["step", "onecycle", "cosine"])
def test_a_scheduler_in_the_middle_is_where_one_from_the_start_would_be(schedule: str) -> None:
    def rates(done: int, steps: int) -> list[float]:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
        if done:
            optimizer.param_groups[0]["initial_lr"] = 0.5  # as a checkpoint's optimizer state brings it
        scheduler, seen = build_lr_scheduler(optimizer, done_steps=done, schedule=schedule, **RUN), []
        for _ in range(steps):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return seen

    assert rates(37, 20) == rates(0, 57)[37:]
