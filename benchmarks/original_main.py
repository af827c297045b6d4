"""Run the original's `main.py` from its folder as it is, but for the backbone's weights, which are not downloaded."""

import argparse
import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))

backbone = importlib.import_module("models.backbone")
backbone.is_main_process = lambda: False  # the original downloads weights on its main process, always
main = importlib.import_module("main")

args = argparse.ArgumentParser(parents=[main.get_args_parser()]).parse_args()
Path(args.output_dir).mkdir(parents=True, exist_ok=True)
main.main(args)
