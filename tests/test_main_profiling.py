"""Profiling flags of the command line: where a run ends, what it leaves, and what it does not touch."""

import csv
import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.helpers import TINY, Run, assert_refused
from util import profiling
from util.profiling import Section, timing
from util.profiling import from_flags as watchers
from util.profiling import nsight as capture

pytestmark = pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")

FEW = f"{TINY} --train_size 20 --epochs 2 --profile_warmup 1 --profile_steps 2"  # 5 steps an epoch


@pytest.mark.slow
@pytest.mark.parametrize("section", [*map(str, Section), "all"])
def test_a_section_opens_one_capture_window_in_each_step_and_then_the_run_ends(
    section: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(capture, "_cuda_start", lambda device: calls.append("start"))
    monkeypatch.setattr(capture, "_cuda_stop", lambda device: calls.append("stop"))
    code, out, err = run(f"{FEW} --section {section}")
    assert code == 0, err
    assert calls == ["start", "stop"] * 2
    assert "the run ends here" in out and "IoU metric" not in out and "Training time" not in out


@pytest.mark.slow
@pytest.mark.parametrize(("section", "windows"), [("all", 2), ("loss", 3)])
def test_a_step_of_two_batches_opens_its_capture_windows(
    section: str, windows: int, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(capture, "_cuda_start", lambda device: calls.append("start"))
    monkeypatch.setattr(capture, "_cuda_stop", lambda device: calls.append("stop"))
    code, _, err = run(f"{FEW} --accumulate 2 --section {section} --timing --output_dir {tmp_path}")
    assert code == 0, err
    assert calls == ["start", "stop"] * windows  # 5 batches an epoch: the steps watched take 2 and 1
    phases = json.loads((tmp_path / "timing.json").read_text())["phases"]
    assert {row["steps"] for row in phases.values()} == {2}


@pytest.mark.slow
def test_training_continues_after_the_capture_window(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(capture, "_cuda_start", lambda device: calls.append("start"))
    monkeypatch.setattr(capture, "_cuda_stop", lambda device: calls.append("stop"))
    code, out, err = run(f"{FEW} --section loss --profile_continue --output_dir {tmp_path}")
    assert code == 0, err
    assert "Epoch: [1]" in out and "Training time" in out and (tmp_path / "best.pth").is_file()
    assert calls == ["start", "stop"] * 2  # none in the 8 other steps, none in two evaluations


@pytest.mark.slow
def test_profiling_leaves_the_files_of_a_run_alone(run: Run, tmp_path: Path) -> None:
    assert run(f"{TINY} --epochs 1 --output_dir {tmp_path}")[0] == 0
    before = contents(tmp_path)
    code, out, _ = run(
        f"{FEW} --profile_warmup 4 --section all --timing --output_dir {tmp_path}"
    )  # into the second epoch
    assert code == 0 and "IoU metric" not in out and f"wrote {tmp_path}/timing.json" in out
    (tmp_path / "timing.json").unlink()
    assert contents(tmp_path) == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_timing_of_a_whole_run(run: Run, tmp_path: Path) -> None:
    code, out, err = run(f"{FEW} --timing --output_dir {tmp_path}")
    assert code == 0, err
    assert "optimizer_step" in out and "data_wait" in out and "Training time" in out
    written = json.loads((tmp_path / "timing.json").read_text())
    phases = written["phases"]
    assert {row["steps"] for row in phases.values()} == {9}  # both epochs but for the first step
    assert [(epoch["epoch"], epoch["phases"]["step"]["steps"]) for epoch in written["epochs"]] == [(0, 4), (1, 5)]
    assert {epoch["pixels"] for epoch in written["epochs"]} == {4 * 64 * 64}
    assert sum(phases[str(s)]["median_ms"] for s in Section) < 1.5 * phases["step"]["median_ms"]


@pytest.mark.slow
def test_without_the_flag_nothing_is_timed_and_nothing_waits(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: pytest.fail("waited for the device"))
    monkeypatch.setattr(timing.PhaseTimer, "begin", lambda *_: pytest.fail("timed"))
    assert run(f"{TINY} --epochs 1")[0] == 0


@pytest.mark.slow
def test_the_trace_has_the_ranges_of_its_steps(run: Run, tmp_path: Path) -> None:
    code, out, err = run(f"{FEW} --torch_profile {tmp_path / 'traces'}")
    assert code == 0, err
    assert "the run ends here" in out
    with gzip.open(tmp_path / "traces" / "trace_rank0.json.gz") as file:
        names = [event.get("name") for event in json.load(file)["traceEvents"] if event.get("cat") == "user_annotation"]
    for name in (
        "iteration",
        "forward",
        "backbone",
        "encoder",
        "decoder",
        "heads",
        "loss",
        "matcher",
        "loss_boxes",
        "backward",
        "optimizer_step",
    ):
        assert names.count(name) >= 2, name
    assert names.count("iteration") == 2


#: Each range of a run, and the one it lies in.
NESTING = {
    "training_loop": None,
    "training_epoch": "training_loop",
    "iteration": "training_epoch",
    "evaluation": "training_loop",
    "forward": "iteration",
    "loss": "iteration",
    "backward": "iteration",
    "optimizer_step": "iteration",
    "backbone": "forward",
    "encoder": "forward",
    "decoder": "forward",
    "heads": "forward",
    "matcher": "loss",
    "loss_labels": "loss",
    "loss_cardinality": "loss",
    "loss_boxes": "loss",
    "loss_masks": "loss",
}


@pytest.mark.slow
@pytest.mark.parametrize("masks", [False, True])
def test_ranges_of_a_whole_run(masks: bool, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    open_ranges: list[str] = []
    seen: dict[str, set[tuple[str, ...]]] = {}

    def begin(name: str) -> str:
        seen.setdefault(name, set()).add(tuple(open_ranges))
        open_ranges.append(name)
        return name

    def end(name: str) -> None:
        assert open_ranges.pop() == name

    @contextmanager
    def annotate(name: str) -> Iterator[None]:
        begin(name)
        yield
        end(name)

    whole_process: list[str] = []
    nvtx = SimpleNamespace(
        annotate=annotate, start_range=lambda name: whole_process.append(name) or begin(name), end_range=end
    )
    monkeypatch.setattr(profiling, "_nvtx", lambda: nvtx)
    code, _, err = run(f"{TINY} --epochs 1{' --masks' if masks else ''}")
    assert code == 0, err
    assert open_ranges == [] and set(whole_process) == {"backward"}
    for name, parent in NESTING.items():
        if name == "loss_masks" and not masks:
            assert name not in seen
            continue
        above = {stack[-1] if stack else None for stack in seen[name] if "evaluation" not in stack}
        assert above == {parent}, name


@pytest.mark.slow
def test_costs_of_one_step_are_counted_and_then_the_run_ends(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ceilings = tmp_path / "costs.roofs.toml"
    monkeypatch.setattr(watchers, "measure_ceilings", lambda script, path, device: (ceilings, None))
    code, out, err = run(f"{FEW} --count_costs {tmp_path / 'costs.csv'}")
    assert code == 0, err
    assert (
        f"wrote {tmp_path / 'costs.csv'} and {ceilings}" in out
        and "the run ends here" in out
        and "IoU metric" not in out
    )
    assert "for want of a formula" not in out, "every operator of a training step has one"
    with open(tmp_path / "costs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["section"] for row in rows} == set(map(str, Section))
    assert {"convolution", "matrix product", "normalization", "softmax", "elementwise", "optimizer"} <= {
        row["family"] for row in rows
    }
    modules = {row["module"] for row in rows if row["section"] == "backward"}
    assert {"backbone", "transformer.encoder", "transformer.decoder", "class_embed", "bbox_embed"} <= modules
    assert all(float(row["time_s"]) > 0 for row in rows)
    assert [row["launches"] for row in rows if row["name"] == "fused_adamw"] == ["1", "1"], "one step, two groups"


@pytest.mark.slow
def test_flags_that_cannot_work_are_refused(run: Run, tmp_path: Path) -> None:
    assert_refused(run(f"{TINY} --epochs 1 --section loss"), "--profile_warmup 10", "--profile_steps 3", "has 2")
    assert_refused(run(f"{TINY} --epochs 1 --timing"), "--profile_warmup 10", "need 11 steps", "has 2")
    assert_refused(run(f"{TINY} --eval --section loss"), "--section", "--eval")
    assert_refused(run(f"{TINY} --profile_continue"), "--profile_continue", "--section")
    assert_refused(run(f"{TINY} --section optimizer"), "--section", "optimizer_step")
    assert_refused(run(f"{TINY} --count_costs {tmp_path}/no/costs.csv"), "--count_costs", "does not exist")
    assert_refused(run(f"{TINY} --count_costs {tmp_path}/costs.csv --timing"), "--count_costs", "--timing")
    assert_refused(run(f"{TINY} --eval --count_costs {tmp_path}/costs.csv"), "--count_costs", "--eval")
    assert_refused(run(f"{TINY} --epochs 1 --count_costs {tmp_path}/costs.csv"), "--profile_warmup 10", "need 11 steps")
    (tmp_path / "file").write_text("")
    assert_refused(run(f"{FEW} --torch_profile {tmp_path / 'file' / 'x'}"), "--torch_profile", "cannot make")
