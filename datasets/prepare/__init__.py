"""Download, verify and lay out public datasets: `python -m datasets.prepare`."""
