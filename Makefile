# Set-up, tests and demonstration. Needs git, make and Python >= 3.11 with venv; installs the rest.
#
#   make demo       a digit classifier, compiled with certified exits for a PC and a Cortex-M7
#   make test       linters, types and the whole test suite (correctness on small budgets)
#   make evidence   the long experiments; rewrites the tables under docs/results/
#
# PYTHON       interpreter for the virtual environment (default: the newest of python3.11 and up)
# TORCH_INDEX  extra package index to take torch from, such as PyTorch's own of CPU builds: the
#              default index may bring the CUDA libraries along

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell scripts/find-python.sh)
TORCH_INDEX ?=
WORKERS ?= 2
INSTALLED := $(VENV)/.installed

# One BLAS thread a process: tests run in parallel, and costs are quoted for one thread.
export OMP_NUM_THREADS ?= 1
export MPLBACKEND := Agg

.PHONY: help setup system demo test lint evidence figures clean

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

setup: system $(INSTALLED)

system:
	@scripts/system-packages.sh

$(INSTALLED): pyproject.toml constraints.txt scripts/find-python.sh
	@test -n "$(PYTHON)" || { echo "Python >= 3.11 with venv is needed: install python3 and python3-venv" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 3 \
	    $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup
	@$(BIN)/python benchmarks/demo.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy offramp tests benchmarks scripts
	$(BIN)/pyright

test: setup lint
	@# Workers side by side, of two threads each, would mostly wait for each other.
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile

evidence: setup
	scripts/evidence.sh

figures: $(INSTALLED)
	$(BIN)/python scripts/figures.py

clean:
	rm -rf $(VENV) build dist demo *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
