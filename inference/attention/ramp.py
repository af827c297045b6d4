"""The colours of attention: from white over yellow and red to a dark violet for the largest weight of a map."""

import numpy as np

#: RGB at equal distances. Multiplied with a grey image, white leaves it as it is.
STOPS = ((255, 255, 255), (255, 240, 200), (254, 190, 95), (238, 92, 44), (190, 24, 93), (74, 8, 96))


#: RGB of a weight that is exactly 0, as sparse attention has them: a grey blue that is no part of the ramp.
NOTHING = (176, 194, 214)


def colours(shares: np.ndarray) -> np.ndarray:
    """Return the colours (..., 3) in 0..1 of shares (...) of the largest weight; exact zeros have their own."""
    places = np.linspace(0, 1, len(STOPS))
    ramp = np.stack([np.interp(shares, places, channel) for channel in np.array(STOPS).T / 255], axis=-1)
    return np.where(shares[..., None] == 0, np.array(NOTHING) / 255, ramp)
