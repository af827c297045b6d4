"""DETR in Detectron2: its wrapper, its configs, and scripts to train with and to convert weights for it."""
