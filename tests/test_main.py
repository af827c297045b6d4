"""The command line as users meet it: flags, whole runs, resuming, and every mistake in one line."""

import argparse
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

import building
import main
from models import build_model
from tests.helpers import TINY, Run, assert_refused, rows, rows_without_measured
from tests.models.official import constant_state
from tests.original_flags import DEFAULTS
from tests.processes import Started
from training import loop

pytestmark = pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")

# ---- flags


def test_every_flag_of_detr_has_its_default() -> None:
    args = vars(argparse.ArgumentParser(parents=[main.get_args_parser()]).parse_args([]))
    assert {name: args[name] for name in DEFAULTS} == DEFAULTS


def test_every_flag_has_help() -> None:
    assert [a.dest for a in main.get_args_parser()._actions if not a.help] == []


def test_help_lists_the_groups(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for group in ("training:", "model:", "matcher and loss:", "data:", "run:"):
        assert f"\n{group}" in out


# ---- whole runs


@pytest.mark.slow
def test_a_killed_and_resumed_run_ends_like_one_that_was_not_killed(run: Run, tmp_path: Path) -> None:
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    assert run(f"{TINY} --epochs 3 --output_dir {straight}")[0] == 0
    assert run(f"{TINY} --epochs 3 --output_dir {cut}")[0] == 0
    # As if killed in the third epoch: its checkpoint was never written, its row half.
    second = tmp_path / "second"
    code, _, err = Started(killed_at_epoch, 2, f"{TINY} --epochs 3 --output_dir {second}").end()
    assert code == -signal.SIGKILL, err
    with (second / "log.txt").open("a") as log:
        log.write('{"train_lr": 0.00')
    code, out, _ = run(f"{TINY} --epochs 3 --output_dir {second} --resume auto")
    assert code == 0 and "resuming at epoch 2, step 4" in out
    assert rows_without_measured(second) == rows_without_measured(straight) == rows_without_measured(cut)
    final = [torch.load(folder / "checkpoint.pth", weights_only=True)["model"] for folder in (straight, second)]
    assert all(torch.equal(final[0][name], final[1][name]) for name in final[0])


def killed_at_epoch(last: int, flags: str) -> None:
    """Run the command in this process, and kill it, without a chance to clean up, when epoch `last` begins."""
    begin = loop.set_epoch

    def set_epoch(loader: DataLoader, epoch: int) -> None:
        if epoch == last:
            os.kill(os.getpid(), signal.SIGKILL)
        begin(loader, epoch)

    loop.set_epoch = set_epoch
    main.cli(flags.split())


def test_a_run_leaves_everything_the_readme_says(run: Run, tmp_path: Path) -> None:
    code, out, _ = run(f"{TINY} --epochs 2 --output_dir {tmp_path}")
    assert code == 0
    left = {path.name for path in tmp_path.iterdir()}
    weights = {"checkpoint.pth", "previous.pth", "best.pth"}
    records = {"log.txt", "run.json", "console.log", "cmdline.txt", "env.txt"}
    assert left == weights | records | {"curves.png", "detections.png", "eval", "eval.pth"}
    assert (tmp_path / "console.log").read_text().partition("\n")[2] == out
    assert {path.name for path in (tmp_path / "eval").iterdir()} == {"000.pth", "latest.pth"}
    for words in (
        "4 classes: ellipse, rectangle, triangle, star",
        "number of params:",
        "Epoch: [1]",
        "AP50",
        "Training time",
    ):
        assert words in out
    checkpoint = torch.load(tmp_path / "checkpoint.pth", weights_only=True)
    assert {"model", "optimizer", "lr_scheduler", "epoch", "args", "class_names"} <= checkpoint.keys()
    assert checkpoint["epoch"] == 1 and checkpoint["class_names"] == {
        1: "ellipse",
        2: "rectangle",
        3: "triangle",
        4: "star",
    }
    last = rows(tmp_path)[-1]
    assert last["epoch"] == 1 and len(last["test_coco_eval_bbox"]) == 12 and last["n_parameters"] > 1e5
    assert {
        "train_lr",
        "train_loss",
        "train_class_error",
        "train_loss_bbox_unscaled",
        "train_step_time",
        "train_data_time",
        "train_max_memory",
        "test_loss_giou_0",
    } <= last.keys()
    assert 0 < last["train_data_time"] < last["train_step_time"] < 60 and 50 < last["train_max_memory"] < 1e6
    info = json.loads((tmp_path / "run.json").read_text())
    assert "torch" in json.dumps(info) and "hidden_dim" in json.dumps(info)


@pytest.mark.slow
def test_evaluation_equals_pycocotools_on_the_written_predictions(run: Run, tmp_path: Path, coco_folder: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    flags = f"{TINY} --dataset_file coco --coco_path {coco_folder} --batch_size 2 --output_dir {tmp_path / 'run'}"
    assert run(f"{flags} --epochs 1")[0] == 0
    code, out, _ = run(f"{flags} --eval --resume {tmp_path / 'run' / 'checkpoint.pth'}")
    assert code == 0 and "predictions.json" in out
    file = coco_folder / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())  # pycocotools itself stops at a box [] and a missing iscrowd
    content["annotations"] = [{"iscrowd": 0, "area": 50} | a for a in content["annotations"] if a["bbox"]]
    file.write_text(json.dumps(content))
    truth = COCO(file)
    judge = COCOeval(truth, truth.loadRes(str(tmp_path / "run" / "predictions.json")), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert rows(tmp_path / "run")[-1]["test_coco_eval_bbox"] == judge.stats.tolist()
    assert "dog" in out and "cat" in out


@pytest.mark.slow
def test_max_steps_ends_the_run_saves_it_and_leaves_nothing_to_resume(run: Run, tmp_path: Path) -> None:
    flags = f"{TINY} --epochs 5 --max_steps 3 --output_dir {tmp_path}"
    assert run(flags)[0] == 0
    assert torch.load(tmp_path / "checkpoint.pth", weights_only=True)["step"] == 3
    code, out, _ = run(f"{flags} --resume auto")
    assert code == 0 and "nothing to do" in out


@pytest.mark.slow
@pytest.mark.parametrize("epochs, steps", [(2, 4), (4, 8)])
def test_the_rest_of_a_half_epoch_is_trained(run: Run, tmp_path: Path, epochs: int, steps: int) -> None:
    cut, straight = tmp_path / "cut", tmp_path / "straight"
    assert run(f"{TINY} --epochs {epochs} --max_steps 3 --output_dir {cut}")[0] == 0
    assert [row["epoch"] for row in rows(cut)] == [0, 1]
    code, out, _ = run(f"{TINY} --epochs {epochs} --output_dir {cut} --resume auto")
    assert code == 0 and "resuming at epoch 1, step 3" in out and "Epoch: [1]  [2/2]" in out
    assert torch.load(cut / "checkpoint.pth", weights_only=True)["step"] == steps
    assert run(f"{TINY} --epochs {epochs} --output_dir {straight}")[0] == 0
    assert [row["epoch"] for row in rows(cut)] == [row["epoch"] for row in rows(straight)] == list(range(epochs))


@pytest.mark.slow
def test_flags_are_recorded_as_typed_and_as_settled_and_stay_as_they_are(run: Run, tmp_path: Path) -> None:
    args = main.parse_flags(f"{TINY} --device cuda --epochs 1 --output_dir {tmp_path}".split())
    before = dict(vars(args))
    main.main(args)
    assert vars(args) == before
    info = json.loads((tmp_path / "run.json").read_text())
    checkpoint = torch.load(tmp_path / "checkpoint.pth", weights_only=True)
    for settled, typed in ((info["flags"], info["flags_as_typed"]), (checkpoint["args"], checkpoint["args_as_typed"])):
        assert typed["device"] == "cuda" and typed["epochs"] == 1 and "num_classes" not in typed and "lr" not in typed
        assert settled["num_classes"] == 5 and settled["lr"] == 1e-4
        assert settled["device"] == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.slow
def test_an_evaluation_of_initial_weights_says_one_true_line(run: Run, tmp_path: Path) -> None:
    assert run(f"{TINY} --epochs 1 --output_dir {tmp_path}")[0] == 0
    loaded = len(torch.load(tmp_path / "checkpoint.pth", weights_only=True)["model"])
    code, out, _ = run(f"{TINY} --eval --init_from {tmp_path / 'checkpoint.pth'}")
    line = rf"--init_from \S+: {loaded} tensors loaded; classes copied by name under their ids .+\n"
    assert code == 0 and re.search(line, out) and "left as initialised" not in out and "has not been trained" not in out
    code, out, _ = run(f"{TINY} --eval")
    assert code == 0 and "note: --eval without --resume measures a model that has not been trained" in out


def test_flags_of_the_original_alone_are_enough(capsys: pytest.CaptureFixture[str]) -> None:
    """A namespace without the flags that are new here, as a script for the original DETR brings it."""
    known = {"resume": "", "eval": True, "dataset_file": "shapes"}
    args = argparse.Namespace(**vars(main.parse_flags(TINY.split())) | known)
    for name in ("amp", "compile", "section", "accumulate", "check", "pad", "num_buckets", "count_costs"):
        delattr(args, name)
    main.main(args)
    assert "IoU metric: bbox, images: 4" in capsys.readouterr().out


def test_help_needs_no_torch() -> None:
    program = "import sys, runpy; sys.argv = ['main.py', '--help']; sys.modules['torch'] = None; "
    program += "runpy.run_path('main.py', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(main.__file__).parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "--lr_backbone" in done.stdout, done.stderr


@pytest.mark.slow
def test_a_resumed_run_keeps_a_better_best_checkpoint(run: Run, tmp_path: Path) -> None:
    assert run(f"{TINY} --epochs 1 --output_dir {tmp_path}")[0] == 0
    checkpoint = torch.load(tmp_path / "checkpoint.pth", weights_only=True)
    torch.save(checkpoint | {"best_ap": 0.9}, tmp_path / "checkpoint.pth")
    (tmp_path / "best.pth").write_bytes(b"the best so far")
    assert run(f"{TINY} --epochs 2 --output_dir {tmp_path} --resume {tmp_path / 'checkpoint.pth'}")[0] == 0
    assert (tmp_path / "best.pth").read_bytes() == b"the best so far"
    assert torch.load(tmp_path / "checkpoint.pth", weights_only=True)["best_ap"] == 0.9


def test_a_fraction_of_the_data_and_fewer_images_than_a_batch(run: Run) -> None:
    code, out, _ = run(f"{TINY} --epochs 1 --fast_dev_run 0.25")
    assert code == 0 and "2 training images, 1 validation" in out
    assert "Fewer images" in out and "Epoch: [0]  [1/1]" in out


@pytest.mark.slow
def test_init_from_takes_what_fits_and_lists_the_rest(run: Run, tmp_path: Path) -> None:
    assert run(f"{TINY} --epochs 1 --output_dir {tmp_path}")[0] == 0
    file = tmp_path / "checkpoint.pth"
    code, _, err = run(f"{TINY} --epochs 1 --num_classes 9 --resume {file}")
    assert code == 2 and len(err.splitlines()) == 1
    for word in ("5 classes", " 9", "--init_from"):
        assert word in err
    code, out, _ = run(f"{TINY} --epochs 1 --num_classes 9 --max_steps 1 --init_from {file}")
    assert code == 0 and "classes copied by name under their ids ellipse, " in out and "Epoch: [0]" in out


@pytest.mark.slow
def test_a_checkpoint_written_by_the_original_detr_resumes(run: Run, tmp_path: Path) -> None:
    """Weights, an AdamW over two groups, StepLR's state, and an argparse.Namespace, as the original pickles them."""
    args = main.FlagParser(parents=[main.get_args_parser()]).parse_args(TINY.split() + ["--num_classes", "5"])
    model = build_model(args)[0]
    optimizer = building.build_optimizer(model, lr=1e-4, lr_backbone=1e-5, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 200)
    namespace = argparse.Namespace(lr=1e-4, lr_backbone=1e-5, output_dir=tmp_path)
    torch.save(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "lr_scheduler": scheduler.state_dict(),
            "epoch": 1,
            "args": namespace,
        },
        tmp_path / "detr.pth",
    )
    code, out, err = run(f"{TINY} --epochs 3 --lr 3e-4 --resume {tmp_path / 'detr.pth'}")
    assert code == 0, err
    assert "resuming at epoch 2, step 4" in out and "keeps --lr 0.0001" in out


@pytest.mark.slow
def test_published_weights_evaluate_without_touching_the_network(
    run: Run, tmp_path: Path, coco_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("went to the network"))
    torch.save({"model": constant_state()}, tmp_path / "detr-r50.pth")
    flags = f"--device cpu --num_workers 0 --eval --coco_path {coco_folder} --num_classes 91 --image_size 64"
    code, out, err = run(f"{flags} --resume {tmp_path / 'detr-r50.pth'}")
    assert code == 0, err
    assert "number of params: 41302368" in out and "AP50" in out


# ---- mistakes, each one line, exit code 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("", ["--coco_path"]),
        ("--coco_path /nowhere", ["/nowhere"]),
        ("--epoch 3", ["--epoch", "did you mean --epochs?"]),
        ("--lr fast", ["--lr", "fast"]),
        ("--dataset_file cocoa", ["cocoa", "coco", "shapes"]),
        ("--backbone resnet5 --dataset_file shapes", ["resnet5", "resnet50", "mobilenet_v2"]),
        ("--dataset_file shapes --backbone resnet18 --dilation --backbone_weights none", ["--dilation", "resnet18"]),
        ("--dataset_file shapes --hidden_dim 30", ["--hidden_dim 30", "--nheads"]),
        ("--dataset_file shapes --batch_size 0", ["--batch_size 0"]),
        ("--dataset_file shapes --fast_dev_run 2", ["--fast_dev_run"]),
        ("--dataset_file shapes --resume /nowhere.pth", ["/nowhere.pth", "no such file"]),
        ("--dataset_file shapes --resume auto", ["--output_dir"]),
        ("--dataset_file shapes --resume a.pth --init_from b.pth", ["--resume", "--init_from"]),
        ("--dataset_file coco_panoptic", ["coco_panoptic", "--data_path", "annotations/panoptic_train2017.json"]),
        ("--coco_panoptic_path x", ["--coco_panoptic_path", "--dataset_file coco_panoptic"]),
        ("--data_path one --coco_path other", ["--data_path one", "--coco_path other"]),
        ("--dataset_file hgp --data_path /nowhere", ["/nowhere", "HGP"]),
        ("--dataset_file custom --train_images x", ["--train_images", "--train_annotations"]),
        ("--dataset_file shapes --device gpu", ["--device gpu"]),
        ("--dataset_file shapes --amp fp16", ["--amp fp16", "cpu", "--amp bf16"]),
        ("--dataset_file shapes --compile --grad_checkpoint", ["--compile", "--grad_checkpoint"]),
        ("--dataset_file shapes --amp half", ["--amp", "half", "bf16"]),
        ("--dataset_file shapes --backbone_weights /nowhere.pth", ["--backbone_weights", "/nowhere.pth"]),
    ],
)
def test_mistakes_in_flags_are_refused_in_one_line(run: Run, flags: str, words: list[str]) -> None:
    assert_refused(run(flags if "--device" in flags else f"--device cpu {flags}"), *words)


def test_a_json_file_that_is_missing_broken_or_not_coco_is_refused(run: Run, coco_folder: Path) -> None:
    flags = f"{TINY} --dataset_file coco --coco_path {coco_folder}"
    file = coco_folder / "annotations" / "instances_train2017.json"
    file.write_text("{")
    assert_refused(run(flags), "instances_train2017.json", "JSON")
    file.write_text("[1]")
    assert_refused(run(flags), "instances_train2017.json", "COCO")
    file.unlink()
    assert_refused(run(flags), "instances_train2017.json")


def test_a_label_outside_the_classes_names_file_annotation_and_label(run: Run, coco_folder: Path) -> None:
    flags = f"{TINY} --dataset_file coco --coco_path {coco_folder}"
    assert_refused(run(f"{flags} --num_classes 5"), "instances_train2017.json", "annotation", "7", "--num_classes")


def test_a_missing_image_is_named_also_by_a_worker_process(run: Run, coco_folder: Path) -> None:
    (coco_folder / "train2017" / "000000000004.png").unlink()
    for workers in (0, 1):
        flags = f"{TINY} --dataset_file coco --coco_path {coco_folder} --epochs 1 --num_workers {workers}"
        assert_refused(run(flags), "000000000004.png")


def test_more_objects_than_queries_is_one_warning_with_the_count(run: Run) -> None:
    code, out, _ = run(f"{TINY} --epochs 1 --num_queries 2")
    assert code == 0 and out.count("--num_queries 2") == 1 and "warning:" in out


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_truncated_and_foreign_files_are_refused_as_checkpoints(
    run: Run, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "broken.pth"
    torch.save({"model": {"w": torch.zeros(1000)}}, file)
    file.write_bytes(file.read_bytes()[:2000] if content is None else content)
    assert_refused(run(f"{TINY} --resume {file}"), "broken.pth")


@pytest.mark.slow
def test_a_loss_that_is_not_finite_leaves_the_last_good_checkpoint(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(f"{TINY} --epochs 1 --output_dir {tmp_path}")[0] == 0
    good = (tmp_path / "checkpoint.pth").read_bytes()
    monkeypatch.setattr("models.layer_losses.F.l1_loss", lambda boxes, *_, **__: boxes * math.nan)
    assert_refused(
        run(f"{TINY} --epochs 2 --output_dir {tmp_path} --resume auto"),
        "Epoch: [1] step 0",
        "loss_bbox",
        "image ids",
        code=3,
    )
    assert (tmp_path / "checkpoint.pth").read_bytes() == good and len(rows(tmp_path)) == 1


def test_no_gpu_is_one_printed_line_and_the_cpu(run: Run) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    code, out, _ = run(TINY.replace("--device cpu", "--device cuda") + " --epochs 1 --max_steps 1")
    assert code == 0 and sum("CPU" in line for line in out.splitlines()) == 1
