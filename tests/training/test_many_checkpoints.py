"""AP over checkpoints, and the flags of CPPE-5's scripts, on a run of three epochs."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

import main
from tests.helpers import TINY, Run, assert_refused, rows

pytestmark = pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")


@pytest.mark.slow
def test_a_run_with_the_flags_of_cppe5(run: Run, tmp_path: Path) -> None:
    folder, out_dir = tmp_path / "run", tmp_path / "evaluated"
    flags = f"{TINY} --max_epochs 2 --train_only --ckpt_store_interval_epochs 1 --metrics_file {tmp_path / 'm.json'}"
    assert run(f"{flags} --output_dir {folder}")[0] == 0
    assert not (folder / "best.pth").exists() and "test_coco_eval_bbox" not in rows(folder)[-1]
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert metrics["epoch"] == 1 and metrics["input_shapes"] == 1 and metrics["ap"] == {}
    assert metrics["peak_memory_mib"] > 0 and metrics["recompiles"] is None

    (folder / "checkpoint0000a.pth").write_bytes(b"broken")
    evaluate = f"{TINY} --max_inf_frames 3 --eval_checkpoints {folder}/checkpoint0*.pth --output_dir {out_dir}"
    code, out, err = run(evaluate)
    assert code == 0, err
    assert "Test:" in out and "checkpoint0000a.pth: truncated, damaged" in out
    with (out_dir / "ap_over_epochs.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["epoch"] for row in table] == ["", "0", "1"] and table[0]["error"] and float(table[2]["AP"]) >= 0
    with Image.open(out_dir / "ap_over_epochs.png") as image:
        assert image.width > 500
    assert (out_dir / "ap_over_epochs.txt").read_text() in out

    code, out, _ = run(evaluate)
    assert code == 0 and "Test:" not in out and out.count("known from") == 2

    drawn = tmp_path / "drawn"
    code, out, err = run(
        f"{TINY} --inference_only --max_inf_frames 2 --resume {folder} --save_images {drawn} --threshold 0"
    )
    assert code == 0, err
    assert len(list(drawn.glob("*.jpg"))) == 2 and f"wrote 2 images to {drawn}" in out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--eval_checkpoints x*.pth --output_dir out", ["x*.pth", "no such file"]),
        ("--eval_checkpoints x*.pth", ["--output_dir"]),
        ("--train_only --eval", ["--train_only", "--eval"]),
    ],
)
def test_what_cannot_be_is_refused(run: Run, flags: str, words: list[str]) -> None:
    assert_refused(run(f"{TINY} {flags}"), *words)


def test_autocast_is_bfloat16() -> None:
    assert main.parse_flags(["--autocast"]).amp == "bf16" and main.parse_flags([]).amp == "off"
