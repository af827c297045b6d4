"""The model that is built from an architecture."""

from dataclasses import asdict

import pytest
import torch

from models.config import Architecture, build_detector
from models.segmentation import DETRsegm
from tests.models.official import official_shapes


@pytest.mark.parametrize(
    ("sizes", "keys"),
    [
        ({}, 458),
        ({"backbone": "resnet101"}, 713),
        ({"masks": True}, 490),
        ({"backbone": "resnet101", "masks": True}, 745),
    ],
)
def test_defaults_are_detrs_and_names_and_shapes_the_originals(sizes: dict, keys: int) -> None:
    classes = 250 if "masks" in sizes else 91
    for dilation in (False, True):  # DC5 has the same tensors
        with torch.device("meta"):
            model = build_detector(Architecture(**sizes, num_classes=classes, dilation=dilation))
        shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
        assert shapes == official_shapes(**sizes) and len(shapes) == keys


def test_every_part_arrives_in_the_model() -> None:
    with torch.device("meta"):
        model = build_detector(
            Architecture(
                backbone="resnet50",
                backbone_norm="batch",
                dilation=True,
                padding_invariant=True,
                nheads=2,
                position_embedding="learned",
                enc_layers=1,
                dec_layers=3,
                dim_feedforward=24,
                hidden_dim=16,
                num_queries=7,
                pre_norm=True,
                num_classes=3,
                masks=True,
            ),
            dropout=0.25,
            aux_loss=True,
            train_backbone=False,
            freeze_detr=True,
            mask_chunk=5,
        )
    assert isinstance(model, DETRsegm) and model.freeze_detr and model.mask_chunk == 5
    detr = model.detr
    decoder = detr.transformer.decoder.layers
    assert len(detr.transformer.encoder.layers) == 1 and len(decoder) == 3 and detr.transformer.encoder.norm is not None
    assert decoder[0].self_attn.num_heads == 2 and decoder[0].dropout.p == 0.25
    assert decoder[0].linear1.weight.shape == (24, 16)
    assert detr.query_embed.weight.shape == (7, 16) and detr.class_embed.weight.shape == (4, 16) and detr.aux_loss
    backbone, encoding = detr.backbone
    assert backbone.padding is not None and isinstance(backbone.body.bn1, torch.nn.BatchNorm2d)
    assert backbone.body.layer4[1].conv2.dilation == (2, 2) and encoding.row_embed.weight.shape == (50, 8)
    assert not any(p.requires_grad for p in detr.parameters())


def test_the_names_are_those_of_flags() -> None:
    import main

    flags = vars(main.get_args_parser().parse_args([]))
    defaults = asdict(Architecture())
    assert {name: flags[name] for name in defaults} == defaults | {"num_classes": None}
