"""The files that a prediction can leave: pictures and videos, COCO's results, a table, YOLO's labels, crops."""
