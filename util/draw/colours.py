"""A colour for every class, the same in every image and run."""

import colorsys

Colour = tuple[int, int, int]

#: Hues of the first classes, chosen far apart; later ids continue by the golden ratio, which never comes back to a hue.
FIRST_HUES = (0.0, 0.56, 0.13, 0.36, 0.83, 0.69, 0.46, 0.25)
GOLDEN_RATIO = 0.6180339887


def class_colour(label: int) -> Colour:
    """Return the RGB colour of a category id, the same in every image and run."""
    index = int(label) - 1  # category ids begin at 1
    if 0 <= index < len(FIRST_HUES):
        hue, saturation, value = FIRST_HUES[index], 0.78, 1.0
    else:
        hue = index * GOLDEN_RATIO % 1
        saturation, value = (0.85, 0.6, 0.75)[index % 3], (1.0, 0.95, 0.8)[index // 3 % 3]
    return tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))
