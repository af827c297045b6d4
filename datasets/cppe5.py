"""CPPE-5, medical protective equipment: 1,000 training and 29 held-out pictures, classes 1 to 5.

Faults of the published files, and what is done about them: sizes in the annotations that differ from the picture (the
decoded picture's size counts), boxes over the edge (clamped), pictures of several modes (converted to RGB), and file names
that carry the folder of the machine on which they were written (the last part of the name is tried).
"""

from datasets.pictures import FindPicture, by_base_name


def picture_finder(image_set: str) -> FindPicture:
    """How the pictures of a split are found; all splits lie in one folder."""
    return by_base_name
