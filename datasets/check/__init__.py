"""Check a dataset before training on it: `python -m datasets.check`."""
