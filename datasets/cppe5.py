"""CPPE-5, medical protective equipment: 1,000 training and 29 validation images, classes 1 to 5.

Faults of the published files, and what is done about them: sizes in the annotations that differ from the image (the
decoded image's size counts), boxes over the edge (clamped), images of several modes (converted to RGB), and file names
that carry the folder of the machine on which they were written (the last part of the name is tried).
"""

from .images import FindImage, by_base_name


def image_finder(image_set: str) -> FindImage:
    """How the images of a split are found; all splits lie in one folder."""
    return by_base_name
