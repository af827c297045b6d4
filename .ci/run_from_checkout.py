"""The build backend of pyproject.toml: `pip install .` ends here, in one line, instead of half working."""

raise SystemExit(
    "DETR is run from its checkout and not installed: its package `datasets` would shadow Hugging Face's. "
    "pip install -r requirements.txt, then python main.py"
)
