"""The interactive page: everything inside, nothing loaded from anywhere, and a browser draws it."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rooflines.charts.html import write_html
from rooflines.gpus import find_gpu
from rooflines.read.inputs import Loaded
from rooflines.roofs import table_roofs

from tests.roofline.kernel_tables import joined, rows

ROOFS = table_roofs(find_gpu("A100 SXM 40"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = joined(rows(12), rows(6, section="loss", seed=1))
    table["kernel"] = table["kernel"].astype(object) + "</script><b>&"
    return write_html(Loaded(table, {"r": ROOFS}, ["a warning <i>"]), tmp_path_factory.mktemp("page") / "roofline.html")


def test_the_page_loads_nothing(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=", text)
    assert not re.search(r"\b(fetch|XMLHttpRequest|import)\s*\(|@import|url\((?!#)", text)
    assert "default-src 'none'" in text


def test_the_data_survives_names_that_look_like_tags(page: Path) -> None:
    text = page.read_text()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
    kernels = data["runs"][0]["kernels"]
    assert len(kernels) == 18
    assert all(kernel["kernel"].endswith("</script><b>&") for kernel in kernels)
    assert sum(kernel["share"] for kernel in kernels) == pytest.approx(1, abs=1e-4)


def test_thousands_of_kernels_become_a_row_of_the_rest_for_each_unit(tmp_path: Path) -> None:
    table = rows(1600)
    text = write_html(Loaded(table, {"r": ROOFS}), tmp_path / "roofline.html").read_text()
    kernels = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])["runs"][0]["kernels"]
    assert len(kernels) == 1500 + len({k["unit"] for k in kernels[1500:]})
    assert kernels[-1]["name"] == "100 others"
    assert sum(kernel["time_s"] for kernel in kernels) == pytest.approx(table["time_s"].sum(), rel=1e-4)


@pytest.mark.slow
def test_a_browser_draws_it(page: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium here")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={page.parent / 'profile'}",
        "--enable-logging=stderr",
        "--dump-dom",
        page.as_uri(),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if "<html" not in result.stdout:
        pytest.skip(f"chromium does not start here: {result.stderr.strip()[-120:]}")
    assert "CONSOLE" not in result.stderr or "Uncaught" not in result.stderr
    points, bars = result.stdout.count('class="point'), result.stdout.count('class="segment')
    assert points == 12, "the kernels with FLOPs"
    assert bars == 18
    assert len(re.findall(r"<tr\b", result.stdout.split("<tbody>")[1].split("</tbody>")[0])) == 18
    assert "TF32 tensor" in result.stdout
