"""Views into a model: where its attention lies in an image, and how its layers come to their boxes."""
