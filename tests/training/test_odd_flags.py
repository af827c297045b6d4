"""Odd values of the training's flags: one clear line, or a run that works."""

from pathlib import Path

import pytest

from tests.helpers import Run, assert_refused

SMALL = (
    "--device cpu --backbone resnet18 --backbone_weights none --enc_layers 0 --dec_layers 1 --hidden_dim 16 --nheads 2 "
    "--dim_feedforward 16 --num_queries 4 --image_size 32 --num_workers 0 --max_steps 1"
)
pytestmark = pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--ema 1.5", "--ema 1.5: must be between 0 and 1"),
        ("--ema nan", "--ema nan"),
        ("--eval_every 0", "--eval_every 0: must be at least 1"),
        ("--max_hours nan", "--max_hours nan"),
        ("--repeat_factor 0", "--repeat_factor 0.0"),
        ("--classes ,", "--classes ',': names no class"),
        ("--classes dog,wolf", "--classes wolf: {folder}"),
        ("--split test --eval", "there is no test split, only train and val"),
        ("--mosaic nan", "--mosaic nan"),
        ("--freeze_layers 99", "resnet18 has 5 parts"),
        ("--save_augmented 3", "--save_augmented writes training images to --output_dir"),
    ],
)
def test_a_value_that_cannot_be_is_one_line(run: Run, coco_folder: Path, flags: str, words: str) -> None:
    assert_refused(run(f"{SMALL} --data_path {coco_folder} {flags}"), words.format(folder=coco_folder))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--early_stop 0 --freeze_backbone 99 --ema 0.5", ""),
        ("--classes DOG,dog,7 --mosaic 1 --rotate90 --scale_jitter 0.1 0.1", "2 classes: "),
        ("--backbone_norm batch --batch_size 1 --eval_batch_size 50 --max_hours 1e-9", "Training time"),
        ("--overfit 50 --dec_layers 1", "on the 3 images"),
    ],
)
def test_an_odd_value_that_can_be_works(run: Run, coco_folder: Path, flags: str, words: str) -> None:
    """Of the four images one has no object to train on."""
    code, out, err = run(f"{SMALL} --data_path {coco_folder} {flags}")
    assert code == 0 and words in out, err
