"""Numbers of an evaluation: COCO's average precision and panoptic quality."""
