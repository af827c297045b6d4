"""Images of ellipses, rectangles, triangles and stars, generated on the fly."""
