#!/usr/bin/env bash
# Snakemake runs this once in a conda environment that it has made, from the folder of the workflow.
set -euo pipefail
pip install --no-deps --no-build-isolation --editable .
