"""Tools of all parts, one subject a file or folder; nothing here knows models or datasets."""
