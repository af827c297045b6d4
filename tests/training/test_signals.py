"""The first signal is a wish, the second an end."""

import multiprocessing
import signal

import pytest

from training.signals import NAMES, stop_on_signals
from training.stop import Stop

_FORKS = multiprocessing.get_context("fork")


@pytest.mark.parametrize("name", NAMES)
def test_one_signal_asks_for_the_end(name: str, capfd: pytest.CaptureFixture) -> None:
    stop, number = Stop(began=0.0), getattr(signal, name)
    before = signal.getsignal(number)
    with stop_on_signals(stop):
        assert not stop.agreed()
        signal.raise_signal(number)
        assert stop.agreed() and stop.reason == name
    assert signal.getsignal(number) == before
    assert capfd.readouterr().err.count("a second signal ends it at once") == 1


def two_signals(name: str) -> None:
    with stop_on_signals(Stop(began=0.0)):
        for _ in range(2):
            signal.raise_signal(getattr(signal, name))


@pytest.mark.parametrize("name, code", [("SIGTERM", -signal.SIGTERM), ("SIGUSR1", 0)])
def test_a_second_signal_ends_the_process_at_once_but_slurms_may_come_twice(name: str, code: int) -> None:
    process = _FORKS.Process(target=two_signals, args=(name,))
    process.start()
    process.join()
    assert process.exitcode == code


def test_a_second_ctrl_c_is_one_as_ever() -> None:
    with pytest.raises(KeyboardInterrupt):
        two_signals("SIGINT")
