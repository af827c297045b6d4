"""Drawings for people: over one image (`boxes`, `panoptic`, `names`), and many images on a sheet (`sheets`)."""
