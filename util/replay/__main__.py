"""Make a step again whose loss was not finite: `python -m util.replay runs/mine/bad_step.pt`."""

import sys

from training.replay import main

if __name__ == "__main__":
    sys.exit(main())
