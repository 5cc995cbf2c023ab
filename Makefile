# `make repro` and `make test` are all a fresh clone needs: Python 3.11+, git, make.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv

.PHONY: help setup repro test faults bench lint ui docs readme pictures dist lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: .venv/.installed ## create .venv and install the locked packages

.venv/.installed: requirements.lock pyproject.toml scripts/telemetry_off.pth
	@command -v git >/dev/null || { echo "error: git is missing: install it first" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11: run make PYTHON=python3.11 (or newer)" >&2; exit 2; }
	@echo "Setting up .venv: some 5 GB of packages, once"
	@test -x "$(BIN)/python" || $(PYTHON) -m venv .venv
	@"$(BIN)"/python -m pip install --quiet --disable-pip-version-check 'uv>=0.4'
	@# Compiled here, once: where PYTHONDONTWRITEBYTECODE is set, every stage would compile torch anew.
	@"$(BIN)"/uv pip sync --quiet --compile-bytecode requirements.lock
	@"$(BIN)"/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@cp scripts/telemetry_off.pth "$$("$(BIN)"/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/"
	@# DVC's experiments are git commits: without a name they fail.
	@git config user.email >/dev/null || { git config user.name "$${USER:-octrobust}"; \
	  git config user.email "$${USER:-octrobust}@localhost"; \
	  echo "git had no user.name and user.email: set for this clone alone, DVC's experiments need them"; }
	@touch $@

repro: setup ## run the pipeline: data, training, attack, hardening, evaluation, report
	dvc repro
	@echo
	@echo "Done: open reports/index.html, or type 'make ui' to see every run in MLflow."

test: setup ## run the tests
	python -m pytest $(TWO_AT_A_TIME)

# Two processes of one thread: small networks gain nothing by more. A file's tests stay together and
# the files in their order: the longest, a whole `dvc repro`, is among the first.
TWO_AT_A_TIME := --numprocesses 2 --dist loadfile --no-loadscope-reorder
test: export OMP_NUM_THREADS = 1

FAULTS := tests/faults

faults: setup ## kill the stages at random moments, a hundred times, and look at what is left
	FAULTS_TABLE=benchmarks/results/faults.json python -m pytest -m faults -v -s $(FAULTS)

PEERS := .octrobust/scratch/benchmarks/peers

bench: setup $(PEERS)/.installed ## our attack beside ART's, foolbox', torchattacks' and advertorch's, some three hours
	python benchmarks/ead.py suite

# Beside .venv, not in it: see benchmarks/requirements.txt.
$(PEERS)/.installed: benchmarks/requirements.txt | setup
	uv pip install --quiet --no-deps --target $(PEERS) --requirement $<
	@touch $@

lint: setup ## ruff and mypy
	ruff check .
	ruff format --check .
	mypy

# Without job execution: `mlflow ui` would start five idle workers that outlive a killed server.
ui: export MLFLOW_SERVER_ENABLE_JOB_EXECUTION = false
ui: setup ## MLflow's page: every run, on loopback only
	@echo "MLflow: http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=headline"
	mlflow ui --host 127.0.0.1 --port 5000

# Not --quiet, which hides warnings from --strict too. The notice is of another tool, no warning.
docs: export NO_MKDOCS_2_WARNING = 1
docs: setup ## the documentation, into site/: opens without a network
	mkdocs build --strict
	@echo "Done: open site/index.html."

readme: setup ## write the marked parts of README and docs anew: numbers, parameters, test map
	python -m scripts.blocks

pictures: setup ## the pictures of README and docs, of the finished run here: needs Chromium
	python -m scripts.pictures

dist: setup ## wheel and sdist into dist/, checked in an environment of their own
	python -m scripts.dist

lock: setup ## resolve requirements.lock anew
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --extra dev pyproject.toml --output-file requirements.lock

clean: ## remove .venv and unfinished work (results stay)
	rm -rf .venv .octrobust/scratch
