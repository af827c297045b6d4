"""The colours of attention: white for none, over yellow and red to a dark violet for the largest weight of a map."""

import numpy as np

#: RGB at equal distances. Multiplied with a grey image, white leaves it as it is.
STOPS = ((255, 255, 255), (255, 240, 200), (254, 190, 95), (238, 92, 44), (190, 24, 93), (74, 8, 96))


def colours(shares: np.ndarray) -> np.ndarray:
    """Return the colours (..., 3) in 0..1 of shares (...) of the largest weight."""
    places = np.linspace(0, 1, len(STOPS))
    return np.stack([np.interp(shares, places, channel) for channel in np.array(STOPS).T / 255], axis=-1)
