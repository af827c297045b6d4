"""Checkpoints with the names of other programs: Hugging Face's and Detectron2's."""
