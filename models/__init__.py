"""The model, part by part, each file a part; `build_model` puts them together from the flags."""

from .build import build_model, follow_checkpoint

__all__ = ["build_model", "follow_checkpoint"]
