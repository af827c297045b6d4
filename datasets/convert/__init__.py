"""Convert Pascal VOC, YOLO and LabelMe folders to COCO's layout: `python -m datasets.convert`."""
