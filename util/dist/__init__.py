"""Processes and devices: which process this is, how it talks to the others, and what it computes on and in."""
