"""The entry `python -m util.replay FILE`; what it does is in `training.replay`."""
