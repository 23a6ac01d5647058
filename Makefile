# `make` alone says what there is. Every target makes its environment (.env) first; a second call reuses it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run slurm settle plan test test-slurm lint pretrain clean pristine pins schema

CONFIG ?=
# the interpreter itself, not a link in .env, which is removed before it is made anew
PYTHON ?= $(shell for one in python3 python3.12 python3.11; do \
  $$one -c 'import sys; sys.version_info[:2] in ((3, 11), (3, 12)) and print(sys._base_executable)' 2>/dev/null || :; done | head -1)

ENV := .env
STAMP := $(ENV)/.complete
export PATH := $(CURDIR)/$(ENV)/bin:$(PATH)
# the first job that imports a module compiles it for all others: pip would compile tens of thousands that none imports
unexport PYTHONDONTWRITEBYTECODE
SNAKEMAKE := snakemake --profile profiles/default $(if $(CONFIG),--configfile $(CONFIG))

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  CONFIG=configs/NAME.yaml lays another configuration over config.yaml (run, plan)"

$(STAMP): $(ENV)/.packages pyproject.toml
	$(ENV)/bin/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(ENV)/.packages: envs/requirements.txt
	@if [ -z "$(PYTHON)" ]; then echo "codebackdoor needs Python 3.11 or 3.12: install one, or name it with make PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)) and "codebackdoor needs Python 3.11 or 3.12, and $(PYTHON) is " + sys.version.split()[0] + ": name another with make PYTHON=/path/to/python3.12")'
	rm -rf $(ENV)
	$(PYTHON) -m venv $(ENV)
	$(ENV)/bin/pip install --quiet --no-compile --requirement envs/requirements.txt
	@touch $@

run: $(STAMP)  ## the whole study: downloads, trains, attacks, defends, and ends with the report
	$(SNAKEMAKE)
	codebackdoor report config.yaml $(CONFIG)

$(ENV)/.slurm: $(STAMP) envs/requirements-slurm.txt
	$(ENV)/bin/pip install --quiet --no-compile --no-deps --requirement envs/requirements-slurm.txt
	@touch $@

slurm: $(ENV)/.slurm  ## the same on a cluster: submits jobs from here (profiles/slurm, docs/hpc.md)
	snakemake --profile profiles/slurm $(if $(CONFIG),--configfile $(CONFIG))
	codebackdoor report config.yaml $(CONFIG)

settle: $(STAMP)  ## after Snakemake was killed on a cluster: cancel its jobs, unlock; then run again
	codebackdoor orphans
	$(SNAKEMAKE) --unlock

plan: $(STAMP)  ## what `make run` would do: jobs, rough time, disk; of hub checkpoints: GPU hours
	@{ $(SNAKEMAKE) --dry-run --quiet host rules reason || :; } | codebackdoor plan config.yaml $(CONFIG)

test: lint  ## every check: style, types, workflow, schema, tests
	pytest

test-slurm: $(ENV)/.slurm  ## the smoke study on a real SLURM of one node, started for it (root, Debian)
	pytest tests/slurm

lint: $(STAMP)  ## the checks without the tests
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile rules
	snakemake --lint
	codebackdoor schema --check schemas

schema: $(STAMP)  ## write schemas/ anew from the settings' classes
	codebackdoor schema schemas

pretrain: $(STAMP)  ## the base models from the corpus, into {out}/models/base (hours; they ship in basemodels/)
	$(SNAKEMAKE) -- base_models

clean:  ## remove one run and nothing else: make clean SCALE=local (the folder runs/local)
	@case "$(SCALE)" in ""|*/*|.*) echo "say which run: make clean SCALE=local removes runs/local; make pristine removes all" >&2; exit 1;; esac
	@if [ ! -d "runs/$(SCALE)" ]; then echo "there is no runs/$(SCALE)" >&2; exit 1; fi
	rm -rf "runs/$(SCALE)"

pristine:  ## remove every run and the environment, keep the sources
	rm -rf runs $(ENV) .snakemake .mypy_cache .ruff_cache .pytest_cache .hypothesis

pins: $(STAMP)  ## resolve envs/requirements*.in anew into envs/requirements.txt
	python envs/pin.py
