# make train: a detector from nothing, on generated images. make test: everything, no network needed.
# make bench: all benchmarks; BENCH="--original DIR --data_path DIR" compares with a checkout of facebookresearch/detr.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: train test bench clean

train: $(VENV)/installed
	PATH="$(abspath $(BIN)):$$PATH" bash recipes/shapes.sh

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -q

bench: $(VENV)/installed
	$(BIN)/python benchmarks/run_all.py $(BENCH)

$(VENV)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: $(PYTHON) is older than Python 3.11; name another: make PYTHON=python3.12 ...")'
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
