"""Dashboards that a run writes to beside its log.txt, each in a file of its own that imports its library when asked."""
