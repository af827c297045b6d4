"""NVTX ranges: what reaches the profiler, and what happens without the package."""

import sys
import types

import pytest

from util import profiling
from util.profiling import Section, annotate, process_range


@pytest.fixture
def calls(monkeypatch):
    """A stand-in for the package nvtx that writes down what it is asked."""
    calls = []

    class Annotate:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            calls.append(("push", self.name))

        def __exit__(self, *error):
            calls.append(("pop", self.name))

    fake = types.SimpleNamespace(
        annotate=Annotate,
        start_range=lambda name: calls.append(("start", name)) or 7,
        end_range=lambda number: calls.append(("end", number)),
    )
    monkeypatch.setitem(sys.modules, "nvtx", fake)
    profiling._nvtx.cache_clear()
    yield calls
    profiling._nvtx.cache_clear()


def test_sections_have_the_names_of_the_step():
    assert [str(section) for section in Section] == ["forward", "loss", "backward", "optimizer_step"]


def test_ranges_reach_the_profiler_as_plain_names(calls):
    with annotate(Section.FORWARD), annotate("decoder"):
        pass
    with process_range(Section.BACKWARD):
        ranges_entered = True
    assert ranges_entered
    assert calls == [
        ("push", "forward"),
        ("push", "decoder"),
        ("pop", "decoder"),
        ("pop", "forward"),
        ("start", "backward"),
        ("end", 7),
    ]
    assert type(calls[0][1]) is str


@pytest.mark.parametrize("context", [annotate, process_range])
def test_a_range_ends_when_its_block_fails(calls, context):
    with pytest.raises(ZeroDivisionError), context("loss"):
        raise ZeroDivisionError
    assert [what for what, _ in calls] in (["push", "pop"], ["start", "end"])


def test_without_the_package_ranges_do_nothing_and_say_so_once(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nvtx", None)
    profiling._nvtx.cache_clear()
    done = []
    for _ in range(2):
        with annotate(Section.FORWARD), process_range(Section.BACKWARD):
            done.append(1)
    profiling._nvtx.cache_clear()
    assert done == [1, 1]
    assert capsys.readouterr().out.count("nvtx is not installed") == 1


def test_the_real_package_takes_both_kinds():
    pytest.importorskip("nvtx")
    with annotate(Section.OPTIMIZER_STEP), process_range(Section.BACKWARD):
        ranges_entered = True
    assert ranges_entered
