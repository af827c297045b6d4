"""Readers of Nsight Compute's CSVs and reports: from a file to launches, to tidy rows, to runs with their roofs."""
