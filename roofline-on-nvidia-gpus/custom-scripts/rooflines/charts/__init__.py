"""Charts of a tidy table: by kernel, by section, against time, one run against another, and as an interactive page."""
