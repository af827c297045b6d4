"""Augmentation beyond DETR's flip, scales and crop, each kind off by default (`switches.Augmentation`)."""
