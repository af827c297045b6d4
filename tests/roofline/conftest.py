"""Fixtures of the roofline tests; pytest.ini puts the folder of the scripts on the import path."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def ncu_dir(shared_dir: Path) -> Path:
    """Real CSVs of an A100 beside the checkout; their tests are skipped where they are absent."""
    folder = shared_dir / "data" / "ncu"
    if not (folder / "output_bs8_optimized_loss.csv").is_file():
        pytest.skip("no real Nsight Compute CSVs in ../shared/data/ncu")
    return folder
