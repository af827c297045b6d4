"""--lr_find: the shape of the test, the rate that known curves give, and a run that keeps nothing."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import TINY, Run, assert_refused
from training import lr_find
from training.lr_curve import is_over, rate_at, smooth, suggest

STEPS = 150
RATES = [rate_at(step, STEPS, first=1e-7, last=1.0) for step in range(STEPS)]


def curve(*, falls_at: float, blows_up_at: float, noise: float = 0.0) -> list[float]:
    """Losses that fall from 20 to 5 around one rate and rise without end from another on."""
    position = np.log10(RATES)
    fall = 15 / (1 + np.exp(-4 * (position - math.log10(falls_at))))
    rise = np.expm1(np.clip(6 * (position - math.log10(blows_up_at)), 0, None))
    noisy = np.random.default_rng(0).normal(0, noise, STEPS)
    losses = (20 - fall + rise + noisy).tolist()
    over = next((n for n in range(1, STEPS) if is_over(losses[:n])), STEPS)
    return losses[:over]


def test_rates_rise_by_the_same_factor() -> None:
    assert RATES[0] == pytest.approx(1e-7) and RATES[-1] == pytest.approx(1.0)
    assert np.diff(np.log(RATES)) == pytest.approx(math.log(1e7) / (STEPS - 1))


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_the_steepest_place_is_suggested_with_its_reason(noise: float) -> None:
    losses = curve(falls_at=2e-4, blows_up_at=0.1, noise=noise)
    found = suggest(RATES[: len(losses)], losses)
    assert found.rate is not None and 1e-4 <= found.rate <= 2e-3
    assert "falls fastest" in found.reason and "blows up" in found.reason
    assert found.rate == float(f"{found.rate:.0e}"), "one digit"


def test_it_keeps_a_distance_from_the_blow_up() -> None:
    losses = [*curve(falls_at=1e-2, blows_up_at=9)[:117], math.inf]  # at 2e-2, soon after the steepest place
    found = suggest(RATES[: len(losses)], losses)
    assert found.rate is not None and found.rate <= 1.5 * RATES[len(losses) - 1] / 10 and "a tenth of" in found.reason


@pytest.mark.parametrize("losses", [[5.0] * STEPS, np.linspace(5, 9, STEPS).tolist(), [5.0, math.nan], [math.inf]])
def test_no_number_is_invented(losses: list[float]) -> None:
    assert suggest(RATES[: len(losses)], losses).rate is None


def test_smoothing_starts_at_the_first_loss() -> None:
    assert smooth([3.0, 3.0, 3.0]) == pytest.approx([3.0] * 3)


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_resnet18")
def test_the_run_ends_with_one_number_and_a_picture(run: Run, tmp_path: Path) -> None:
    """Two steps an epoch; the last line is the answer, and no weight is written."""
    flags = f"{TINY} --lr_find --max_steps 22 --batch_size 2 --accumulate 2 --image_size 32 --output_dir"
    code, out, err = run(flags, tmp_path)
    assert code == 0, err
    assert out.splitlines()[-1].startswith("lr_find: ")
    assert [path.name for path in tmp_path.iterdir()] == ["lr_find.png"]


@pytest.mark.parametrize(("seconds", "steps"), [(0.0, 150), (0.5, 150), (1.0, 90), (20.0, 40)])
def test_the_steps_fit_into_two_minutes(seconds: float, steps: int) -> None:
    assert lr_find.steps_that_fit(seconds) == steps


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_resnet18")
def test_slow_steps_are_fewer_and_it_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lr_find, "SECONDS", 0.0)
    monkeypatch.setattr(lr_find, "FEWEST", 21)
    code, out, err = run(f"{TINY} --lr_find --batch_size 2 --image_size 32")
    assert code == 0, err
    assert (
        "lr_find: a step takes" in out and ": 21 of them, about" in out and out.splitlines()[-1].startswith("lr_find")
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--lr_find --eval", ["--lr_find", "--eval"]),
        ("--lr_find --resume x.pth", ["--init_from x.pth"]),
        ("--lr_find --overfit 3", ["two trials"]),
        (f"{TINY} --lr_find --lr 0", ["--lr 0", "above 0"]),
    ],
)
@pytest.mark.usefixtures("narrow_resnet18")
def test_what_does_not_work_is_refused(run: Run, flags: str, words: list[str]) -> None:
    assert_refused(run(flags), *words)
