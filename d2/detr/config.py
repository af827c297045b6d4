"""The settings that DETR adds to Detectron2's."""

from typing import Any

from detectron2.config import CfgNode


def add_detr_config(cfg: Any) -> None:
    """Add DETR's settings, with DETR-R50's values, to a config of Detectron2."""
    cfg.MODEL.DETR = CfgNode(
        {
            # Detectron2 numbers COCO's classes without gaps; main.py's labels are category ids up to 90.
            "NUM_CLASSES": 80,
            # With masks: a file of the wrapper whose detector is loaded and frozen; the mask head alone trains.
            "FROZEN_WEIGHTS": "",
            # Weights of the paper's section A.4, for the losses and for the matcher.
            "GIOU_WEIGHT": 2.0,
            "L1_WEIGHT": 5.0,
            "DEEP_SUPERVISION": True,
            # Most queries see nothing: the paper divides their share of the class loss by ten (section 3.1).
            "NO_OBJECT_WEIGHT": 0.1,
            "NHEADS": 8,
            "DROPOUT": 0.1,
            "DIM_FEEDFORWARD": 2048,
            "ENC_LAYERS": 6,
            "DEC_LAYERS": 6,
            "PRE_NORM": False,
            "HIDDEN_DIM": 256,
            "NUM_OBJECT_QUERIES": 100,
        }
    )
    cfg.SOLVER.OPTIMIZER = "ADAMW"
    # 1e-5 beside 1e-4: pretrained weights move more slowly.
    cfg.SOLVER.BACKBONE_MULTIPLIER = 0.1
