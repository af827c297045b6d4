"""The parts that the benchmarks share, and the flags that `make bench` gives each; no time is asserted."""

import argparse
import importlib
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import child, end_to_end, evaluation, inference, loader, masks, run_all, scaling, step_worker, torchrun
from benchmarks.child import alternate, medians_of
from benchmarks.report import (
    ROOT,
    Implementation,
    benchmark_parser,
    implementations,
    print_medians,
    without_folders,
    write_report,
)
from benchmarks.scaling_plot import plot_scaling
from datasets.annotations import read_annotations
from models import backbone
from tests.processes import PythonProcess, run_python


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers, and what torchrun starts them with, are forks of a process that has imported torch."""
    monkeypatch.setattr(child, "subprocess", SimpleNamespace(Popen=PythonProcess, PIPE=None))
    monkeypatch.setattr(torchrun, "subprocess", SimpleNamespace(run=run_python, PIPE=None))


class FakeChild:
    """Answers 1, 2, 3, ... and remembers the order in which all were asked."""

    asked: list[str] = []

    def __init__(self, name: str) -> None:
        self.name, self.count, self.closed = name, 0, False

    def work(self) -> dict:
        self.asked.append(self.name)
        self.count += 1
        return {"seconds": float(self.count)}

    def close(self) -> None:
        self.closed = True


def test_workers_alternate_and_warm_ups_do_not_count() -> None:
    FakeChild.asked = []
    workers = {name: FakeChild(name) for name in "ab"}
    runs = alternate(workers, 3, describe=str)
    assert "".join(FakeChild.asked) == "baabbaab"
    assert [row["seconds"] for row in runs["a"]] == [2, 3, 4]
    assert medians_of(runs) == {"a": 3, "b": 3} and medians_of(runs, "loss") == {}
    assert all(worker.closed for worker in workers.values())


def test_workers_are_closed_when_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = {name: FakeChild(name) for name in "ab"}
    monkeypatch.setattr(workers["a"], "work", lambda: sys.exit("the worker ended"))
    with pytest.raises(SystemExit, match="the worker ended"):
        alternate(workers, 1, describe=str)
    assert all(worker.closed for worker in workers.values())


def test_medians_name_the_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    print_medians({"batch 1": {"ours": 0.5, "original": 1.5}, "batch 2": {"ours": 2.0}}, "s")
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "batch 1         ours: median 0.5 s, 3.00 times as fast as original"
    assert lines[1:] == ["batch 1     original: median 1.5 s", "batch 2         ours: median 2 s"]
    print_medians({"step": {"ours": 1.0, "before": 1.5, "original": 3.0}}, "s")
    ours, before, _ = capsys.readouterr().out.splitlines()
    assert ours.endswith("median 1 s, 1.50 times as fast as before, 3.00 times as fast as original")
    assert before.endswith("median 1.5 s")


def test_no_folder_of_the_machine_is_reported(tmp_path: Path) -> None:
    args = argparse.Namespace(original=tmp_path / "deep" / "detr", data_path=tmp_path / "coco", threads=2, output=None)
    text = f"--original {args.original} --data_path {args.data_path}"
    assert without_folders(text, args) == "--original facebookresearch-detr --data_path coco"
    args.output = tmp_path / "x.json"
    report = json.loads(write_report("name", args, medians={"a": {"ours": 1.0}}, unit="s", more=3).read_text())
    assert (report["better"], report["unit"], report["more"]) == ("lower", "s", 3)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", report["date"]) and report["machine"]["flags"]["threads"] == 2
    assert str(tmp_path) not in args.output.read_text()


@pytest.mark.parametrize(
    "flags, also",
    [
        ([], ["--amp bf16"]),
        (["--also="], []),
        (["--also=--compile", "--also=--tf32 --compile"], ["--compile", "--tf32 --compile"]),
    ],
)
def test_also_before_and_original_add_to_the_comparison(flags: list[str], also: list[str], tmp_path: Path) -> None:
    args = benchmark_parser("name", "Text.", also=["--amp bf16"]).parse_args(
        [*flags, "--original", str(tmp_path), "--before", str(ROOT / "tests")]
    )
    expected = {f"ours {text}": Implementation(ROOT, tuple(text.split())) for text in also}
    others = {"before": Implementation(ROOT / "tests"), "original": Implementation(tmp_path)}
    assert implementations(args) == {"ours": Implementation(ROOT), **expected, **others}


def test_a_benchmark_has_no_flag_that_it_cannot_use() -> None:
    parser = benchmark_parser("name", "Text.", original=False, threads=False)
    assert set(vars(parser.parse_args([]))) == {"output"}


@pytest.mark.parametrize("flags", [["--quick"], ["--device", "cuda"]], ids=["quick", "cuda"])
@pytest.mark.parametrize("name", run_all.QUICK)
def test_make_bench_gives_flags_that_each_knows(
    name: str, flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = run_all.parse_args([*flags, "--original", str(tmp_path), "--data_path", str(tmp_path)])
    _, script, *given = run_all.command_of(name, args, tmp_path / "x.json")
    benchmark = importlib.import_module(f"benchmarks.{Path(script).stem}")
    parsed: list[str] = []

    def parse_and_stop(parser: argparse.ArgumentParser, words: list[str] | None = None) -> argparse.Namespace:
        parsed.extend(vars(true_parse(parser, words)))
        raise KeyboardInterrupt

    true_parse = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.setattr(sys, "argv", [script, *given])
    with pytest.raises(KeyboardInterrupt):
        benchmark.main()
    assert "output" in parsed


def test_what_lacks_its_data_is_left_out_and_what_fails_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_all, "run", lambda name, args: int(name == "masks"))
    names = ["--only", "loader", "masks", "panoptic", "kernels"]
    assert run_all.main(["--quick", *names]) == 1
    out = capsys.readouterr().out
    assert "loader: left out, it needs --data_path\n" in out and "== kernels\n" in out and "failed: masks\n" in out
    assert run_all.main(["--quick", *names, "--data_path", str(tmp_path), "--skip", "masks"]) == 0
    out = capsys.readouterr().out
    assert f"panoptic: left out, it needs {tmp_path}/annotations/panoptic_val2017.json\n" in out and "== loader" in out


@pytest.mark.slow
def test_the_numbers_of_the_evaluation_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "x.json"
    flags = f"--images 12 --detections 20 --rounds 1 --threads 1 --output {output}"
    monkeypatch.setattr(sys, "argv", ["evaluation.py", *flags.split()])
    assert evaluation.main() == 0
    assert "the twelve numbers are equal to the last bit" in capsys.readouterr().out
    report = json.loads(output.read_text())
    assert report["numbers_equal"] is True and set(report["medians"]) == {"whole", "numbers"}
    assert report["stats"]["ours"] == report["stats"]["pycocotools"] and 0 < report["stats"]["ours"][0] < 1

    worse = {"whole": 1.0, "numbers": 1.0, "stats": [0.5] * 12}
    rows = {"ours": [worse], "pycocotools": [worse | {"stats": [0.5] * 11 + [0.51]}]}
    monkeypatch.setattr(evaluation, "Child", lambda *args: None)
    monkeypatch.setattr(evaluation, "alternate", lambda *args, **kwargs: rows)
    assert evaluation.main() == 1 and "NOT equal" in capsys.readouterr().out


@pytest.mark.slow
def test_inference_of_a_tiny_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = "-- --backbone resnet18 --enc_layers 1 --dec_layers 1 --hidden_dim 32 --dim_feedforward 32"
    flags = f"--batch_sizes 2 --size 48 64 --rounds 1 --threads 1 --output {tmp_path / 'x.json'} {tiny}"
    monkeypatch.setattr(sys, "argv", ["inference.py", *flags.split()])
    inference.main()
    report = json.loads((tmp_path / "x.json").read_text())
    assert set(report["medians"]["batch 2"]) == {"ours", "ours --amp bf16"} and report["unit"] == "s a batch"
    whole, half = (report["runs"]["batch 2"][name][0]["score"] for name in ("ours", "ours --amp bf16"))
    assert whole != half == pytest.approx(whole, rel=0.02)


def test_inference_compares_what_runtimes_found_with_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["inference.py", "--size", "50", "100", "--also=", "--runtimes", "onnxruntime"])
    args = inference.parse_args()
    found = {"scores": torch.rand(2, 5), "boxes": torch.rand(2, 5, 4)}
    torch.save(found, tmp_path / "ours.pt")
    # Half a pixel is 0.005 of a width of 100.
    torch.save({"scores": found["scores"] + 9e-4, "boxes": found["boxes"]}, tmp_path / "onnxruntime.pt")
    assert inference.differences(args, tmp_path)["onnxruntime"] == {"score": pytest.approx(9e-4, rel=1e-3), "box": 0}
    found["boxes"][0, 0, 2] += 0.5
    torch.save(found, tmp_path / "onnxruntime.pt")
    with pytest.raises(SystemExit, match="onnxruntime computes something else than our model"):
        inference.differences(args, tmp_path)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--runtimes openvino", "--runtimes openvino needs packages: pip install openvino"),
        ("--runtimes onnxruntime --device cuda", "--runtimes are measured on the CPU: leave out --device cuda"),
    ],
)
def test_runtimes_that_cannot_be_measured_are_refused_in_one_line(
    flags: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    missing = {"openvino"}
    monkeypatch.setattr(inference.importlib.util, "find_spec", lambda name: None if name in missing else True)
    monkeypatch.setattr(sys, "argv", ["inference.py", *flags.split()])
    with pytest.raises(SystemExit, match="2"):
        inference.parse_args()
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_the_step_worker_has_our_optimizer_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(backbone, "is_main_process", backbone.is_main_process)  # put back what the worker replaces
    tiny = "--backbone resnet18 --enc_layers 1 --dec_layers 1 --hidden_dim 32 --dim_feedforward 32 --device cpu"
    model, _, optimizer, args = step_worker.build(str(ROOT), [*tiny.split(), "--amp", "bf16"])
    assert optimizer.defaults["fused"] and len(optimizer.param_groups) == 2
    assert step_worker.switch_on(model, args).dtype == torch.bfloat16


def test_a_module_that_fails_to_import_is_not_taken_for_the_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_here.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    assert step_worker.own_module("no_such_module") is None and step_worker.own_module("no_such.module") is None
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        step_worker.own_module("broken_here")


@pytest.mark.slow
def test_memory_of_a_step_with_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = "-- --backbone resnet18 --enc_layers 1 --dec_layers 1 --hidden_dim 32 --dim_feedforward 32"
    flags = f"--size 48 64 --threads 1 --output {tmp_path / 'x.json'} {tiny}"
    monkeypatch.setattr(sys, "argv", ["masks.py", *flags.split()])
    masks.main()
    medians = json.loads((tmp_path / "x.json").read_text())["medians"]
    assert medians["peak, MB"]["ours"] > 100 and set(medians["step, s"]) == {"ours"}


@pytest.mark.slow
def test_passes_over_a_tiny_folder(tmp_path: Path, coco_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = f"--data {coco_folder} --passes 1 --output {tmp_path / 'x.json'} -- --image_size 64 --batch_size 2"
    monkeypatch.setattr(sys, "argv", ["loader.py", *flags.split()])
    loader.main()
    report = json.loads((tmp_path / "x.json").read_text())
    assert set(report["medians"]["seconds"]) == {"ours", "ours, normalised"} and report["better"] == "higher"
    assert report["runs"]["ours"][0]["images"] == 4


def test_whole_runs_are_of_the_same_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    flags = f"--data_path {tmp_path} --original {tmp_path} -- --batch_size 8"
    monkeypatch.setattr(sys, "argv", ["end_to_end.py", *flags.split()])
    commands = end_to_end.commands(end_to_end.parse_args(), tmp_path)
    ours, half, original = (commands[name][0][2:] for name in ("ours", "ours --amp bf16", "original"))
    assert ours == ["--backbone_weights", "none", *original] and half == [*ours, "--amp", "bf16"]
    assert ours[-2:] == ["--batch_size", "8"] and commands["ours"][1] == ROOT


def test_whole_runs_of_a_few_images_are_of_those_with_objects(coco_folder: Path, tmp_path: Path) -> None:
    folder = end_to_end.first_images(coco_folder, tmp_path / "few", 2)
    for split in ("train", "val"):
        data = read_annotations(folder / "annotations" / f"instances_{split}2017.json")
        assert data.object_counts().all() and data.image_ids.tolist() == [1, 9]
        assert (folder / f"{split}2017" / "000000000009.png").is_file()


def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such data')"]
    with pytest.raises(SystemExit, match="no such data"):
        end_to_end.run_once(command, tmp_path, 1)


def scaling_args(monkeypatch: pytest.MonkeyPatch, flags: str) -> argparse.Namespace:
    monkeypatch.setattr(sys, "argv", ["scaling.py", *flags.split()])
    return scaling.parse_args()


def test_one_quantity_is_varied_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    args = scaling_args(monkeypatch, "--side 300 --threads 3 -- --backbone resnet18")
    order = scaling.order_of(args, "queries", 40)
    assert order["size"] == (300, 400) and order["objects"] == 7 and order["threads"] == 3
    assert order["flags"] == "--device cpu --batch_size 2 --num_queries 40 --backbone resnet18".split()
    assert scaling.order_of(args, "side", 600)["size"] == (600, 800)
    assert scaling.order_of(args, "objects", 30)["objects"] == 30
    with pytest.raises(SystemExit):
        scaling_args(monkeypatch, "--sweeps queries side --values 1 2")


def test_a_point_beyond_the_memory_is_left_out() -> None:
    measured = {value: {"ours": [{"peak_mb": 1000.0 + 10 * value}]} for value in (1, 2)}
    assert scaling.fits(measured, 3, "cpu") and not scaling.fits(measured, 10**9, "cpu")
    assert scaling.fits(measured, 10**9, "cuda") and scaling.fits({}, 10**9, "cpu")


@pytest.mark.slow
def test_scaling_measures_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = "--backbone resnet18 --enc_layers 1 --dec_layers 1 --hidden_dim 32 --dim_feedforward 32"
    flags = f"--side 48 --rounds 1 --threads 1 --sweeps processes --values 1 --output {tmp_path / 'x.json'} -- {tiny}"
    monkeypatch.setattr(sys, "argv", ["scaling.py", *flags.split()])
    scaling.main()
    report = json.loads((tmp_path / "x.json").read_text())
    (row,) = report["runs"]["processes"]["1"]["ours"]
    assert row["images"] == 2 and row["images_a_second"] == pytest.approx(2 / row["seconds"])
    assert report["medians"] == {"processes 1": {"ours": row["seconds"]}}
    assert (tmp_path / "x.png").stat().st_size > 5000


def test_the_plot_has_a_panel_for_each_sweep(tmp_path: Path) -> None:
    sweeps = {
        "queries": {10: {"ours": 1.0, "original": 2.0}, 100: {"ours": 3.0, "original": 4.0}},
        "side": {400: {"ours": 1.0}},
    }
    assert plot_scaling(sweeps, tmp_path / "scaling.json") == tmp_path / "scaling.png"
