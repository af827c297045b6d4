"""Drawings for people: objects over one image (`boxes`), and many images on one sheet of paper (`sheets`)."""
