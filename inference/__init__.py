"""A trained detector pointed at images: what `predict.py` and Python programs use."""
