"""DETR as a Detectron2 meta architecture, registered as `Detr` when this package is imported."""

from .config import add_detr_config
from .dataset_mapper import DetrDatasetMapper
from .detr import Detr

__all__ = ["Detr", "DetrDatasetMapper", "add_detr_config"]
