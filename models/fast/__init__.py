"""Parts of the model that compute the same numbers faster or in less memory.

Each stands in for a plain way that a test compares it with; `models` works the same without them, only slower.
"""
