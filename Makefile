# make demo and make test do everything on a fresh machine; make help lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
TORCH := torch==2.13.0

.PHONY: help setup demo test test-slow lint bench clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)  ## make .venv with everything in it

$(STAMP): pyproject.toml constraints.txt scripts/check_python.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash scripts/check_python.sh
	@echo "setting up $(VENV) (a few minutes the first time)"
	@# torch alone and first: asked for by name with its version, it comes as the CPU build where one is offered.
	@$(BIN)/python -m pip install -qq --disable-pip-version-check $(TORCH) \
	    $(if $(TORCH_INDEX_URL),--index-url "$(TORCH_INDEX_URL)")
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(STAMP)

demo: setup  ## teach the embedded model a document it cannot know, offline
	@$(BIN)/accrete demo --offline

test: setup lint  ## lint and the fast tests
	@$(BIN)/python -m pytest -n auto

test-slow: setup  ## the tests that take minutes
	@$(BIN)/python -m pytest -n auto -m slow

lint: setup  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: setup  ## speed, each against a peer or a limit in the same run
	$(BIN)/python benchmarks/allocator.py
	$(BIN)/python benchmarks/learn_throughput.py
	$(BIN)/python benchmarks/thousand.py --quick
	$(BIN)/python benchmarks/study.py
	$(BIN)/python benchmarks/retrieval.py --chunks 0

clean:  ## remove the environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
