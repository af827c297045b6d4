"""--save_augmented: a sheet of what the model sees, and training as if there were none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.collate import Collate, ObjectSizes
from tests.helpers import TINY, Run, assert_refused, rows_without_measured
from training.augmented import draw_batch
from util.draw.boxes import class_colour


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_resnet18")
def test_a_run_with_the_sheet_has_the_losses_of_one_without(run: Run, tmp_path: Path) -> None:
    flags = f"{TINY} --epochs 1 --mosaic 0.5 --color_jitter 0.3 --output_dir"
    code, out, _ = run(f"{flags} {tmp_path / 'with'} --save_augmented 6")
    assert code == 0 and out.count("6 training images of epoch 0 as the model sees them") == 1
    assert run(f"{flags} {tmp_path / 'without'}")[0] == 0
    assert rows_without_measured(tmp_path / "with") == rows_without_measured(tmp_path / "without")
    assert Image.open(tmp_path / "with" / "augmented.png").size[0] > 4 * 320
    assert not (tmp_path / "without" / "augmented.png").exists()


def test_images_are_drawn_without_padding_and_with_their_real_objects() -> None:
    image = torch.full((3, 80, 160), 200, dtype=torch.uint8)
    target = {
        "boxes": torch.tensor([[0.5, 0.5, 0.5, 0.5]]),
        "labels": torch.tensor([2]),
        "image_id": torch.tensor([7]),
        "size": torch.tensor([80, 160]),
        "orig_size": torch.tensor([10, 20]),
    }
    collate = Collate(canvas=(100, 200), objects=ObjectSizes(sizes=(3,), no_object=5))
    ((drawn, caption),) = draw_batch(*collate([(image, target)]), {2: "cat"})
    assert drawn.size == (320, 160) and caption == "image id 7, 160 x 80, objects: 1"
    pixels = np.asarray(drawn)
    # The box is 40 to 120 of 160 pixels wide, at twice that on the sheet.
    assert tuple(pixels[80, 81]) == class_colour(2) and tuple(pixels[80, 160]) == (200, 200, 200)
    assert (pixels[:, -1] == 200).all() and (pixels[-1] == 200).all()


def test_the_sheet_needs_a_folder_and_training(run: Run) -> None:
    assert_refused(run(f"{TINY} --save_augmented 4"), "--save_augmented", "--output_dir")
