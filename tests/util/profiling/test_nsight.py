"""The capture window: opened and closed around its phase only, once in every step that has one."""

import pytest
import torch

from util.profiling import SECTIONS, Section
from util.profiling.nsight import CaptureWindow
from util.profiling.phases import StepPhases

CPU = torch.device("cpu")


def story_of(section: str, *, warmup: int, steps: int, run: int) -> tuple[list, CaptureWindow]:
    """Phases of `run` steps, and between them the opening (`[`) and the closing (`]`) of the window."""
    story: list = []
    window = CaptureWindow(
        section=section,
        warmup=warmup,
        steps=steps,
        device=CPU,
        start=lambda: story.append("["),
        stop=lambda: story.append("]"),
    )
    phases = StepPhases([window])
    for _ in range(run):
        with phases.step():
            for part in Section:
                with phases.phase(part):
                    story.append(part.value)
    return story, window


@pytest.mark.parametrize("section", [*map(str, Section)])
def test_one_phase(section: str) -> None:
    story, window = story_of(section, warmup=2, steps=3, run=7)
    plain = [part.value for part in Section]
    at = plain.index(section)
    opened = [*plain[:at], "[", section, "]", *plain[at + 1 :]]
    assert story == 2 * plain + 3 * opened + 2 * plain
    assert window.done


def test_the_whole_step_is_one_window() -> None:
    story, _ = story_of("all", warmup=1, steps=2, run=3)
    plain = [part.value for part in Section]
    assert story == plain + 2 * ["[", *plain, "]"]


@pytest.mark.parametrize(
    ("section", "expected"),
    [("loss", "f[l]b f[l]b o"), ("all", "[flb flb o]")],
)
def test_a_step_that_takes_its_batch_in_parts(section: str, expected: str) -> None:
    story: list = []
    window = CaptureWindow(
        section=section, warmup=0, steps=1, device=CPU, start=lambda: story.append("["), stop=lambda: story.append("]")
    )
    phases = StepPhases([window])
    with phases.step():
        for part in [*list(Section)[:3]] * 2 + [Section.OPTIMIZER_STEP]:
            with phases.phase(part):
                story.append(part.value[0])
    assert "".join(story) == expected.replace(" ", "")


def test_it_is_done_with_its_last_window_and_not_before() -> None:
    assert not story_of("loss", warmup=1, steps=2, run=2)[1].done
    assert story_of("loss", warmup=1, steps=2, run=3)[1].done


def test_a_phase_that_fails_closes_the_window() -> None:
    story: list = []
    window = CaptureWindow(
        section="loss",
        warmup=0,
        steps=1,
        device=CPU,
        start=lambda: story.append("["),
        stop=lambda: story.append("]"),
    )
    phases = StepPhases([window])
    with pytest.raises(ZeroDivisionError), phases.step(), phases.phase(Section.LOSS):
        raise ZeroDivisionError
    assert story == ["[", "]"]


def test_cuda_waits_for_the_device_before_it_opens_and_before_it_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: calls.append(f"wait for {device}"))
    monkeypatch.setattr(torch.cuda.profiler, "start", lambda: calls.append("start"))
    monkeypatch.setattr(torch.cuda.profiler, "stop", lambda: calls.append("stop"))
    window = CaptureWindow(section="forward", warmup=0, steps=1, device=torch.device("cuda:1"))
    window.begin_step(0)
    window.begin(Section.FORWARD)
    window.end(Section.FORWARD)
    assert calls == ["wait for cuda:1", "start", "wait for cuda:1", "stop"]


def test_without_cuda_it_says_so_and_opens_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for name in ("start", "stop"):
        monkeypatch.setattr(torch.cuda.profiler, name, lambda: pytest.fail("opened"))
    phases = StepPhases([CaptureWindow(section="loss", warmup=0, steps=1, device=CPU)])
    with phases.step(), phases.phase(Section.LOSS):
        pass
    assert phases.watchers[0].done
    assert capsys.readouterr().out.count("no CUDA device") == 1


def test_sections_are_those_of_the_step_and_all() -> None:
    assert SECTIONS == ("forward", "loss", "backward", "optimizer_step", "all")
