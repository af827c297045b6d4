"""Python's search for garbage, less often: imports make a million objects that stay, and looking at them takes time."""

import gc


def look_less_often() -> None:
    """From here on only what is made is looked through, and not after every 700 objects: that took 6 % of the tests."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()
