"""The table of shapes: of every part, as the model computes them."""

import pytest
import torch

from models.config import Architecture, build_detector
from models.shape_table import format_shapes, shapes_of
from tests.helpers import Run

SMALL = Architecture(
    backbone="resnet18", hidden_dim=32, nheads=4, enc_layers=2, dec_layers=3, dim_feedforward=16, num_queries=5
)


def test_a_row_has_the_shape_and_the_parameters_of_a_part() -> None:
    model = build_detector(SMALL)
    rows = {row.name: row for row in shapes_of(model, torch.zeros(2, 3, 64, 96))}
    assert rows["images"].shape == (2, 3, 64, 96)
    assert rows["backbone.0.body.layer1"].shape == (2, 64, 16, 24)
    assert rows["backbone.0.body.layer4"].shape == (2, 512, 2, 3)
    assert rows["backbone.1"].shape == rows["input_proj"].shape == (2, 32, 2, 3)
    assert rows["transformer.encoder.layers.1"].shape == (2, 6, 32)
    assert rows["transformer.decoder"].shape == (3, 2, 5, 32)
    assert rows["class_embed"].parameters == 32 * 92 + 92
    assert rows["pred_logits"].shape == (2, 5, 92) and rows["pred_boxes"].shape == (2, 5, 4)
    assert model.training and not any(module._forward_hooks for module in model.modules())


def test_masks_are_in_the_table_of_a_model_that_has_them() -> None:
    masks = build_detector(Architecture(**vars(SMALL) | {"masks": True}))
    rows = {row.name: row for row in shapes_of(masks, torch.zeros(1, 3, 64, 96))}
    assert rows["bbox_attention"].shape == (1, 5, 4, 2, 3) and rows["pred_masks"].shape == (1, 5, 16, 24)


def test_layers_of_one_shape_are_one_line_with_all_their_parameters() -> None:
    rows = shapes_of(build_detector(SMALL), torch.zeros(1, 3, 64, 64))
    encoder = [row for row in rows if "encoder.layers" in row.name]
    line = next(line for line in format_shapes(rows).splitlines() if "encoder.layers.0 to 1" in line)
    assert f"{sum(row.parameters for row in encoder):,}" in line and "1 x 4 x 32" in line


@pytest.mark.parametrize(("flags", "line"), [("", "1 x 5 x 92"), ("--num_classes 3 --dilation", "--dilation")])
def test_the_flag_prints_the_table_without_data(run: Run, flags: str, line: str) -> None:
    small = (
        "--backbone resnet18 --hidden_dim 32 --nheads 4 --enc_layers 1 --dec_layers 1 --num_queries 5 --batch_size 1"
    )
    code, out, error = run(f"--print_shapes --image_size 64 {small} {flags}")
    assert code == (2 if error else 0) and line in out + error
    assert "Traceback" not in out + error
