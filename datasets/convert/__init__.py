"""Convert Pascal VOC, YOLO, LabelMe and Hugging Face's folders to COCO's layout: `python -m datasets.convert`."""
