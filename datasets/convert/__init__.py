"""Convert Pascal VOC and YOLO folders to COCO's layout: `python -m datasets.convert`."""
