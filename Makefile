# `make` alone lists the targets. Every target first builds the environment (.env) if it does not exist yet.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run reproduce fetch slurm settle keep push pull plan test test-slurm test-kills lint pretrain clean pristine pins schema

CONFIG ?=
EXPERIMENT ?=
SCALE ?=
MIRROR ?=
# the interpreter itself, not a link in .env, which is removed before it is rebuilt
PYTHON ?= $(shell for one in python3 python3.12 python3.11; do \
  $$one -c 'import sys; sys.version_info[:2] in ((3, 11), (3, 12)) and print(sys._base_executable)' 2>/dev/null || :; done | head -1)

ENV := .env
STAMP := $(ENV)/.complete
export PATH := $(CURDIR)/$(ENV)/bin:$(PATH)
# let the first job that imports a module compile it for all others: pip would compile tens of thousands that no job imports
unexport PYTHONDONTWRITEBYTECODE
# a folder's name may contain spaces and quotes
quoted = '$(subst ','\'',$(1))'
SETTINGS := $(if $(CONFIG),--configfile $(CONFIG)) $(if $(MIRROR),--config $(call quoted,mirror=$(MIRROR)))
SNAKEMAKE := snakemake --profile profiles/default $(SETTINGS)
# a run that fails removes its lock, so a lock that is still there belongs to another run
LOCKED = || { status=$$?; [ -z "$$(ls .snakemake/locks 2>/dev/null)" ] || \
  echo "If it could not be locked: another run is active in this folder, or one was killed. If one was killed: make settle" >&2; exit $$status; }

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  CONFIG=configs/NAME.yaml overrides settings of config.yaml (run, plan, fetch, slurm, push, pull)"
	@echo "  MIRROR=FOLDER reads data and checkpoints from that folder, without network (run, plan, slurm, push); fetch fills it"

$(STAMP): envs/requirements.txt pyproject.toml
	@if [ -z "$(PYTHON)" ]; then echo "codebackdoor needs Python 3.11 or 3.12: install one, or name it with make PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)) and "codebackdoor needs Python 3.11 or 3.12, and $(PYTHON) is " + sys.version.split()[0] + ": name another with make PYTHON=/path/to/python3.12")'
	@$(PYTHON) envs/build.py $(ENV)

# packages that only some targets need
$(ENV)/.fetch $(ENV)/.slurm $(ENV)/.dvc: $(ENV)/.%: $(STAMP) envs/requirements-%.txt
	@$(ENV)/bin/python envs/build.py $(ENV) --extra $*

run: $(STAMP)  ## run the whole study: download data, train, attack, defend, write the report
	@$(SNAKEMAKE) $(LOCKED)
	@codebackdoor report config.yaml $(CONFIG)

# the papers' studies, and a comparison of all their defenses
STUDIES := elibadcode codepurify dece cross

reproduce:  ## run all papers' studies at local scale, with a joint report (14 hours); for one: make reproduce EXPERIMENT=dece (hours)
	@$(foreach study,$(filter-out $(STUDIES),$(EXPERIMENT)), \
	  echo "unknown EXPERIMENT=$(study); name one of $(STUDIES), or leave it out to run all of them" >&2; exit 1;)
	@for study in $(or $(EXPERIMENT),$(STUDIES)); do \
	  $(MAKE) --no-print-directory run CONFIG="configs/$$study.yaml $(CONFIG)"; done
	@$(if $(EXPERIMENT),,codebackdoor join config.yaml $(STUDIES:%=configs/%.yaml) --out runs/report.html)

# checked before anything is installed
ifneq ($(filter fetch,$(MAKECMDGOALS)),)
ifeq ($(strip $(SCALE)$(CONFIG)),)
$(error say what to fetch: make fetch SCALE=paper, SCALE=local, or CONFIG=configs/NAME.yaml)
endif
endif

fetch: $(ENV)/.fetch  ## download a study's data and checkpoints, to run it without network: make fetch SCALE=paper (docs/hpc.md)
	codebackdoor mirror config.yaml $(patsubst %,configs/%.yaml,$(filter-out local,$(SCALE))) $(CONFIG) $(if $(MIRROR),--into $(call quoted,$(MIRROR)))

slurm: $(ENV)/.slurm  ## run the study on a SLURM cluster; submits jobs from here (profiles/slurm, docs/hpc.md)
	@snakemake --profile profiles/slurm $(SETTINGS) $(LOCKED)
	@codebackdoor report config.yaml $(CONFIG)

settle: $(STAMP)  ## after Snakemake was killed: end its remaining jobs, here and on a cluster, and unlock; then run again
	codebackdoor orphans
	$(SNAKEMAKE) --unlock

# the DVC stage that versions the run of CONFIG, and the folder of its dvc.lock
VERSIONS := $(if $(CONFIG),configs/versions/)
STAGE := $(if $(CONFIG),$(VERSIONS)dvc.yaml:run@$(basename $(notdir $(CONFIG))),local)
ifneq ($(filter push pull,$(MAKECMDGOALS)),)
ifneq ($(word 2,$(CONFIG)),)
$(error only a single configuration can be versioned: merge the files into one, CONFIG=configs/NAME.yaml)
endif
endif

AGAIN = make run$(if $(CONFIG), CONFIG=$(CONFIG))$(if $(MIRROR), MIRROR=$(call quoted,$(MIRROR)))

# what a stage in dvc.yaml runs
keep: run
	codebackdoor keep-records config.yaml $(CONFIG)

push: $(ENV)/.dvc  ## version a finished run and push it to the remote (docs/versions.md)
	@said=$$($(SNAKEMAKE) --dry-run --quiet host rules reason 2>&1) || { echo "$$said" >&2; exit 1; }; \
	[[ "$$said" == *"Nothing to be done"* ]] \
	  || { echo "the run is not up to date: "$(call quoted,$(AGAIN))", then push again" >&2; exit 1; }
	codebackdoor keep-records config.yaml $(CONFIG)
	dvc commit --quiet --force $(STAGE)
	dvc push $(STAGE)
	@echo "Now commit $(VERSIONS)dvc.lock, which records the version of the run that belongs to these sources."

pull: $(ENV)/.dvc  ## download the run that dvc.lock names; nothing reruns afterwards (docs/versions.md)
	dvc pull $(STAGE)
	codebackdoor restore-records config.yaml $(CONFIG)

plan: $(STAMP)  ## show what `make run` would do: jobs, rough time and disk space, or GPU hours with hub checkpoints
	@{ $(SNAKEMAKE) --dry-run --quiet host reason --printshellcmds || :; } | codebackdoor plan config.yaml $(CONFIG)

test: lint $(ENV)/.dvc  ## run all checks and tests: style, types, workflow, schema, wording, the study at smoke scale
	@echo "Unit and contract tests first, then the whole study at smoke scale, several times ..."
	pytest --numprocesses 2 --dist loadfile tests/unit tests/contract
	pytest --ignore tests/unit --ignore tests/contract

test-slurm: $(ENV)/.slurm  ## run the smoke study on a one-node SLURM that the test starts (needs root and Debian)
	pytest -rs tests/slurm

test-kills: $(STAMP)  ## kill the smoke study at 20 random moments and compare its outputs with those of an undisturbed run
	python tests/workflow/interruptions.py

lint: $(STAMP)  ## run only the checks, without the tests
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow/Snakefile rules
	snakemake --lint
	codebackdoor schema --check schemas
	codebackdoor methods --check docs/methods.md
	pytest -q tests/unit/test_words.py

schema: $(STAMP)  ## write schemas/ and the table of methods (docs/methods.md) from the settings classes
	codebackdoor schema schemas
	codebackdoor methods docs/methods.md

pretrain: $(STAMP)  ## pretrain the base models from the corpus, into OUT/models/base (hours; they are already in basemodels/)
	$(SNAKEMAKE) -- base_models

clean:  ## remove one run: make clean SCALE=local (the folder runs/local)
	@case "$(SCALE)" in ""|*/*|.*) echo "say which run to remove: make clean SCALE=local removes runs/local; make pristine removes all" >&2; exit 1;; esac
	@if [ ! -d "runs/$(SCALE)" ]; then echo "there is no runs/$(SCALE)" >&2; exit 1; fi
	@if [ -n "$$(ls .snakemake/locks 2>/dev/null)" ]; then echo "a run is active in this folder: wait for it; if it was killed: make settle" >&2; exit 1; fi
	rm -rf "runs/$(SCALE)"

pristine:  ## remove all runs and the environment, keep the sources
	rm -rf runs $(ENV) .snakemake dvc_plots .mypy_cache .ruff_cache .pytest_cache .hypothesis

pins: $(STAMP)  ## pin the dependencies of pyproject.toml in envs/requirements*.txt
	python envs/pin.py
