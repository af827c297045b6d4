# make train: a detector from nothing, on generated images.
# make test: every test; make test-fast: all but the slow ones. No network, GPU or data needed.
# make coverage: every test, then the lines that none of them ran, the files with most of them first; twice as long.
# make test-slurm: the batch scripts on a real Slurm of one node; minutes, skipped where Slurm is not installed.
# make soak: a run that is killed 200 times, a long one, 100,000 files with anything in them; 17 minutes on two cores.
# make lint: layout, style and types, as CI checks them; make format: let ruff mend what it can.
# make counts: accept what a training step costs now as the new state of benchmarks/counts.json, which CI compares with.
# make bench: all benchmarks; BENCH="--original DIR --data_path DIR" compares with a checkout of facebookresearch/detr.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests run in a process for each core and one more, for some wait; 9 at most. make test WORKERS= runs them in one.
WORKERS ?= -n $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1) --maxprocesses 9 --dist worksteal

# Quick tests wait for nothing: another process would only import everything once more.
FAST_WORKERS ?= -n $(shell getconf _NPROCESSORS_ONLN) --maxprocesses 8 --dist worksteal

.PHONY: train test test-fast coverage test-slurm soak lint format counts bench clean

train: $(VENV)/installed
	PATH="$(abspath $(BIN)):$$PATH" bash recipes/shapes.sh

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -q $(WORKERS)

test-fast: $(VENV)/installed-dev
	$(BIN)/python -m pytest -q $(FAST_WORKERS) -m "not slow"

# A test that fails is no reason to see no lines.
coverage: $(VENV)/installed-dev
	-$(BIN)/python -m coverage run -m pytest -q $(WORKERS)
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report --sort=cover

test-slurm: $(VENV)/installed-dev
	$(BIN)/python -m pytest -q -rs -s -n 0 tests/slurm/real_slurm.py

soak: $(VENV)/installed-dev
	$(BIN)/python benchmarks/reliability.py

# The files that mypy reads are listed in pyproject.toml.
lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

counts: $(VENV)/installed
	$(BIN)/python benchmarks/counts.py --accept

bench: $(VENV)/installed
	$(BIN)/python benchmarks/run_all.py $(BENCH)

$(VENV)/python:
	$(PYTHON) .ci/check_python.py
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/installed: requirements.txt | $(VENV)/python
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/installed-dev: requirements.txt requirements-dev.txt | $(VENV)/python
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) runs
