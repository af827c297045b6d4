"""Curves of torchvision's detectors and of our runs in one table; images and boxes as torchvision takes them."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.small_data import print_table, to_rival
from util.nested_tensor import NestedTensor


def test_a_log_and_a_curve_stand_side_by_side_by_quarters_of_their_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, rival = tmp_path / "mine" / "log.txt", tmp_path / "rival.json"
    ours.parent.mkdir()
    # Four epochs of 60 steps of one second: a minute each; the third without an evaluation.
    scores = {epoch: [0.1 * epoch, 0.2 * epoch, *[0.0] * 6, 0.5] for epoch in (1, 2, 4)}
    rows = [
        {"global_step": 60 * epoch, "train_step_time": 1.0}
        | ({"test_coco_eval_bbox": scores[epoch]} if epoch in scores else {})
        for epoch in (1, 2, 3, 4)
    ]
    ours.write_text("".join(json.dumps(row) + "\n" for row in rows))
    points = [{"minutes": minutes, "AP": minutes / 10, "AP50": 0.9, "AR100": 0.3} for minutes in (2.0, 4.0)]
    rival.write_text(json.dumps({"curve": points}))
    print_table([ours, rival])
    _, mine, other = (line.split() for line in capsys.readouterr().out.splitlines())
    assert mine == "mine 0.100 0.200 0.500 0.200 0.400 0.500 0.200 0.400 0.500 0.400 0.800 0.500 4.0 min".split()
    assert other == "rival 0.200 0.900 0.300 0.200 0.900 0.300 0.400 0.900 0.300 4.0 min".split()


def test_padding_is_cut_off_and_boxes_are_in_pixels() -> None:
    pixels = torch.full((1, 3, 8, 12), 255, dtype=torch.uint8)
    target = {
        "size": torch.tensor([4, 10]),
        "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.5], [0.5, 0.5, 0.0, 0.5]]),
        "labels": torch.tensor([2, 1]),
    }
    (image,), (objects,) = to_rival(NestedTensor(pixels, torch.zeros(1, 8, 12, dtype=torch.bool)), [target])
    assert image.shape == (3, 4, 10) and image.max() == 1
    # The second has no width.
    torch.testing.assert_close(objects["boxes"], torch.tensor([[4.0, 1.0, 6.0, 3.0]]))
    assert objects["labels"].tolist() == [2]
