"""Epochs and steps, exhaustively for small numbers: whatever is cut off where, every step happens exactly once."""

import itertools

import pytest

from util.runs.plan import EpochPart, TrainingPlan, is_training_state, steps_done, steps_of


def steps_made(plan: TrainingPlan) -> list[tuple[int, int]]:
    """Every step of the plan as (epoch, step within it)."""
    return [(part.epoch, part.skip + i) for part in plan.parts() for i in range(part.steps)]


@pytest.mark.parametrize("per_epoch, epochs", list(itertools.product(range(1, 5), range(5))))
def test_every_step_happens_once_however_often_the_run_is_cut(per_epoch: int, epochs: int) -> None:
    every = list(itertools.product(range(epochs), range(per_epoch)))
    for cuts in itertools.product(range(len(every) + 3), repeat=2):  # --max_steps of two runs before the last one
        made: list[tuple[int, int]] = []
        for max_steps in (*cuts, 0):
            plan = TrainingPlan(per_epoch, epochs, max_steps, done=len(made))
            assert plan.left == len(steps_made(plan))
            made += steps_made(plan)
        assert made == every


def test_parts_are_whole_epochs_and_the_rest_of_one_that_was_cut() -> None:
    assert list(TrainingPlan(2, 4, done=3).parts()) == [EpochPart(1, 1, 1), EpochPart(2, 0, 2), EpochPart(3, 0, 2)]
    assert list(TrainingPlan(2, 2, max_steps=3).parts()) == [EpochPart(0, 0, 2), EpochPart(1, 0, 1)]
    assert list(TrainingPlan(3, 1, done=3).parts()) == []
    assert TrainingPlan(2, 4, done=3).first_epoch == 1


def test_an_evaluation_that_is_still_to_be_made_comes_first() -> None:
    plan = TrainingPlan(2, 3, done=4, unevaluated=True)
    assert list(plan.parts()) == [EpochPart(1, 2, 0), EpochPart(2, 0, 2)] and plan.first_epoch == 1
    assert list(TrainingPlan(2, 3, done=6, unevaluated=True).parts()) == [EpochPart(2, 2, 0)]
    assert list(TrainingPlan(3, 2, 4, done=4, unevaluated=True).parts()) == [EpochPart(1, 1, 0)]
    within = TrainingPlan(2, 3, done=3, unevaluated=True)
    assert not within.pending and list(within.parts()) == [EpochPart(1, 1, 1), EpochPart(2, 0, 2)]


@pytest.mark.parametrize("batches, accumulate, steps", [(6, 1, 6), (6, 4, 2), (8, 4, 2), (1, 5, 1), (0, 3, 0)])
def test_batches_make_steps(batches: int, accumulate: int, steps: int) -> None:
    assert steps_of(batches, accumulate) == steps


TRAINED = {"optimizer": {}, "lr_scheduler": {}, "epoch": 4}


@pytest.mark.parametrize(
    "checkpoint, steps",
    [
        (None, 30),  # a new run, from --start_epoch 3
        ({"model": {}}, 30),  # weights alone
        (TRAINED, 50),  # a file of the original
        (TRAINED | {"step": 43, "steps_per_epoch": 10}, 43),  # a half epoch
        (TRAINED | {"step": 50, "steps_per_epoch": 20}, 25),  # another batch size
        (TRAINED | {"step": 5, "steps_per_epoch": 3}, 17),
    ],
)
def test_steps_that_a_checkpoint_stands_for(checkpoint: dict | None, steps: int) -> None:
    assert steps_done(checkpoint, start_epoch=3, steps_per_epoch=10) == steps


def test_weights_alone_are_no_training_state() -> None:
    assert is_training_state(TRAINED) and not is_training_state({"model": {}, "epoch": 1})
