"""The roofline scripts are a folder of scripts: it is put on the import path, as Python does for a script's folder."""

import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "roofline-on-nvidia-gpus" / "custom-scripts"
sys.path.append(str(SCRIPTS))


@pytest.fixture(scope="session")
def ncu_dir(shared_dir: Path) -> Path:
    """Real CSVs of an A100 beside the checkout; their tests are skipped where they are absent."""
    folder = shared_dir / "data" / "ncu"
    if not (folder / "output_bs8_optimized_loss.csv").is_file():
        pytest.skip("no real Nsight Compute CSVs in ../shared/data/ncu")
    return folder
