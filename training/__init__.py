"""The training of a run: the epoch loop, and what it needs of flags and checkpoints."""
