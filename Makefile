# make demo: install and run the main job on the embedded data.   make test: install and run lint, types and tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help
.PHONY: help demo test test-all install install-test clean

help:            ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip uv

$(VENV)/.installed: pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable '.[test,dev]'
	@touch $@ $(VENV)/.installed

install: $(VENV)/.installed            ## make .venv and install eo_adapt into it

install-test: $(VENV)/.installed-test  ## the same with what the tests need

demo: install    ## train task=crops method=coral on the embedded data and show the scores
	$(BIN)/python -m eo_adapt.train task=crops method=coral

test: install-test  ## lint, types, tests and notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=25 -m "not slow"
	$(BIN)/python -m pytest -n 2 --nbmake notebooks

test-all: test  ## and the slow tests
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

clean:           ## remove the environment and every output
	rm -rf $(VENV) outputs build dist .mypy_cache .ruff_cache .pytest_cache
