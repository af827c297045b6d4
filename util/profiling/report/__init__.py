"""The command `python -m util.profiling.report`; the page itself is made by the roofline scripts."""
