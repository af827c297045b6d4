"""Training runs over the values of a parameter: which jobs, how to run them, and what they found."""
