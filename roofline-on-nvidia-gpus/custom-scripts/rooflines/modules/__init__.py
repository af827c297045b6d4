"""The report by module: a run with all that is known of it, its pictures and its page."""
