"""Small helpers, one subject a file; nothing here knows models or datasets."""
