"""Phases of a step: what watchers are told, in which order, and when a run may end."""

import pytest

from util.profiling import Section
from util.profiling.phases import StepPhases


class Recorder:
    """A watcher that writes down what it is told under its name."""

    def __init__(self, name: str, story: list, *, done: bool = True) -> None:
        self.name, self.story, self.done = name, story, done

    def begin_wait(self) -> None:
        self.story.append((self.name, "?"))

    def begin_step(self, step: int) -> None:
        self.story.append((self.name, step))

    def begin(self, section: Section) -> None:
        self.story.append((self.name, f"+{section}"))

    def end(self, section: Section) -> None:
        self.story.append((self.name, f"-{section}"))

    def end_step(self) -> None:
        self.story.append((self.name, "."))


def test_the_last_watcher_is_the_innermost() -> None:
    story: list = []
    phases = StepPhases([Recorder("a", story), Recorder("b", story)])
    for _ in range(2):
        with phases.step(), phases.phase(Section.LOSS):
            story.append("work")
    once = [("a", "+loss"), ("b", "+loss"), "work", ("b", "-loss"), ("a", "-loss"), ("b", "."), ("a", ".")]
    assert story == [("a", 0), ("b", 0), *once, ("a", 1), ("b", 1), *once]


def test_watchers_learn_that_a_batch_is_waited_for() -> None:
    story: list = []
    for batch in StepPhases([Recorder("a", story)]).batches([7, 8]):
        story.append(batch)
    assert story == [("a", "?"), 7, ("a", "?"), 8, ("a", "?")]


def test_a_phase_that_fails_ends() -> None:
    story: list = []
    with pytest.raises(ZeroDivisionError), StepPhases([Recorder("a", story)]).phase(Section.BACKWARD):
        raise ZeroDivisionError
    assert story == [("a", "+backward"), ("a", "-backward")]


def test_a_run_ends_when_it_is_for_its_watchers_and_all_are_done() -> None:
    first, second = Recorder("a", [], done=True), Recorder("b", [], done=False)
    assert not StepPhases([first]).finished
    phases = StepPhases([first, second], stop_when_done=True)
    assert not phases.finished
    second.done = True
    assert phases.finished
