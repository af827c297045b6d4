"""Runs that can be cut off and gone on with: their steps, checkpoints, log and record."""
