"""Detect objects in images with a trained model.

from predict import Detector
detector = Detector("runs/mine/best.pth")
found = detector("photo.jpg")       # boxes in pixels, labels, names, scores, masks
"""

from inference.detector import Detector as Detector
