"""Progress on terminals and in log files, and the collection of losses."""

import io

import pytest
import torch

from util.metrics import MEASURED, StepLog
from util.progress import Progress


class Clock:
    """Stands in for time.perf_counter: it goes on when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """Stands in for a terminal."""

    def isatty(self) -> bool:
        return True


class Bar:
    """Stands in for tqdm on a terminal."""

    def __init__(self, **_: object) -> None:
        self.disable, self.shown, self.steps = False, [], 0

    def update(self) -> None:
        self.steps += 1

    def set_postfix_str(self, text: str) -> None:
        self.shown.append(text)


def run_log(progress: Progress, losses: list[float], print_freq: int = 2) -> StepLog:
    log = StepLog(header="Epoch: [0]", weight_dict={"loss_ce": 2.0}, print_freq=print_freq, progress=progress)
    for value in log.each(iter(losses), len(losses)):
        log.add({"loss_ce": torch.tensor(value), "class_error": torch.tensor(50.0)}, [1], rates=[0.1])
    return log


def test_lines_in_a_file_every_print_freq_steps_and_at_the_end(capsys: pytest.CaptureFixture) -> None:
    log = run_log(Progress(total=5), [1.0, 2.0, 3.0, 4.0, 8.0])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1] for line in lines] == ["[2/5]", "[4/5]", "[5/5]"]
    assert "loss: 7.0000 (5.0000)" in lines[1]  # median of the window, mean of the epoch, both weighted
    assert log.averages()["loss"] == pytest.approx(2 * 18 / 5) and log.averages()["lr"] == pytest.approx(0.1)


def test_a_bar_and_no_lines_on_a_terminal(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("util.progress.tqdm", Bar)
    progress = Progress(total=4)
    run_log(progress, [1.0, 2.0, 3.0, 4.0])
    assert capsys.readouterr().out == ""
    assert progress.bar.steps == 4 and progress.bar.shown == ["Epoch: [0] loss 3.000", "Epoch: [0] loss 5.000"]


def test_averages_of_training_have_the_seconds_of_a_step_and_the_peak_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr("util.metrics.time.perf_counter", clock)

    def loader():
        for wait in (2.0, 1.0, 0.0):
            clock.now += wait
            yield wait

    log = StepLog(header="Epoch: [0]", weight_dict={}, print_freq=2, progress=Progress(total=3))
    for _ in log.each(loader(), 3):
        clock.now += 3.0
        log.add({"class_error": torch.tensor(1.0)}, [1], rates=[0.1])
    averages = log.averages()
    assert (averages["step_time"], averages["data_time"]) == (4.0, 1.0)
    assert type(averages["max_memory"]) is float and averages["max_memory"] > 50  # torch alone is larger


def test_averages_of_an_evaluation_have_no_times() -> None:
    log = StepLog(header="Test:", weight_dict={}, print_freq=2, progress=Progress(total=1))
    for _ in log.each([1], 1):
        log.add({"class_error": torch.tensor(1.0)}, [1])
    assert log.averages().keys().isdisjoint(MEASURED)


def test_the_bar_shows_the_average_pace_and_not_that_of_the_last_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    clock = Clock()
    progress = Progress(total=100)
    progress.bar._time, progress.bar.start_t, progress.bar.last_print_t = clock, clock.now, clock.now
    for seconds in [1.0] * 10 + [3.0] * 10:
        clock.now += seconds
        progress.advance()
    assert "<02:40" in str(progress.bar), "80 steps are left, and a step took 2 s in the mean"
    progress.close()


def test_time_left_is_the_average_pace_times_the_steps_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 150.0])
    monkeypatch.setattr("util.metrics.time.monotonic", lambda: next(clock))
    progress = Progress(total=1010, done=10)  # a resumed run: its pace is that of its own steps
    for _ in range(10):
        progress.advance()
    assert progress.eta() == "1:22:30"
