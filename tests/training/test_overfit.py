"""--overfit: the same few images in training and evaluation, a verdict, and nothing kept but a sheet."""

from pathlib import Path

import pytest
import torch

import datasets
from main import parse_flags
from tests.helpers import TINY, Run, assert_refused

pytestmark = pytest.mark.usefixtures("narrow_resnet18")


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        "",
        "--masks",
        pytest.param("--queries encoder --focal --local_attention --accumulate 2 --amp bf16", id="variant"),
    ],
)
def test_a_verdict_on_generated_images(run: Run, tmp_path: Path, flags: str) -> None:
    flags = f"{TINY} --hidden_dim 32 --overfit 3 --batch_size 2 --max_steps 5 {flags} --output_dir"
    code, out, err = run(flags, tmp_path)
    assert code == 0, err
    assert out.splitlines()[-1].startswith("overfit: TOO FEW STEPS TO TELL: AP50 ") and "on the 3 images" in out
    assert "5 steps in" in out.splitlines()[-1] and "--dropout 0.0" in out and "--image_size 320" not in out
    assert [path.name for path in tmp_path.iterdir()] == ["overfit.png"]


def test_files_of_coco_and_a_typed_flag(run: Run, coco_folder: Path) -> None:
    """Of its four images two hold an object that can be trained on; plain DETR on few images is not warned about."""
    small = "--backbone resnet18 --backbone_weights none --enc_layers 0 --dec_layers 1 --num_queries 4 --device cpu"
    small += " --image_size 32 --num_workers 0 --max_steps 1 --overfit 3 --data_path"
    code, out, err = run(small, coco_folder)
    assert code == 0, err
    assert "3 training images, 3 validation images" in out and "warning: plain DETR" not in out
    assert "--image_size" not in out.partition("git:")[0], "a typed flag is not chosen"


def test_images_are_not_augmented(coco_folder: Path) -> None:
    flags = parse_flags(["--data_path", str(coco_folder), "--image_size", "32", "--overfit", "2"])
    dataset = datasets.build_dataset("train", flags)
    assert all(torch.equal(dataset[0][0], dataset[0][0]) for _ in range(8))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--overfit 2 --eval", ["--overfit", "--eval"]),
        ("--overfit 2 --resume x.pth", ["--init_from x.pth"]),
        ("--overfit 101", ["at most 100"]),
        ("--overfit -1", ["--overfit -1", "at least 0"]),
    ],
)
def test_what_does_not_go_together_is_refused(run: Run, flags: str, words: list[str]) -> None:
    assert_refused(run(flags), *words)
