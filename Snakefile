from pathlib import Path
from typing import get_args

from snakemake.utils import min_version

from codebackdoor import processes
from codebackdoor.config.loading import read_yaml, validate
from codebackdoor.config.pretraining import Family
from codebackdoor.config.scenario import CONSTRAINTS, POSITIONS, PROBE
from codebackdoor.corpora.archives import archive
from codebackdoor.dag import SOME, Dag, growing, model_files
from codebackdoor.errors import UserError
from codebackdoor.parameters import options
from codebackdoor.report.products import FIGURES, LISTINGS, PRODUCTS

min_version("9.6")


configfile: "config.yaml"


report: "report/workflow.rst"


try:
    # Snakemake has read them by itself, and keeps the last of two equal keys
    for path in workflow.configfiles:
        read_yaml(Path(path))
    dag = Dag(validate(config))
    dag.check_files(workflow.configfiles)
except UserError as error:
    raise WorkflowError(str(error))
dag.tell_jobs()


wildcard_constraints:
    **CONSTRAINTS,
    experiment=CONSTRAINTS["dataset"],
    figure="|".join(FIGURES),
    listing="|".join(LISTINGS),
    archive=r"[a-z0-9_.-]+",
    family="|".join(get_args(Family)),


include: "rules/data.smk"
include: "rules/poison.smk"
include: "rules/train.smk"
include: "rules/defend.smk"
include: "rules/evaluate.smk"
include: "rules/collect.smk"
include: "rules/report.smk"


# `make settle` must not clear up behind a run that is alive, here or on another host
onstart:
    processes.begin()
    # Of every job that has ended, Snakemake looks once a second whether the next may start (its pull request 3744): after
    # a hundred of them that took a fifth of a core. Here nothing limits their rate; a cluster is spared as before.
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


onsuccess:
    processes.ended()


onerror:
    processes.ended()


# with a scheduler, these run where Snakemake does: downloads need the network, the others take seconds
localrules:
    all,
    base_models,
    fetch,
    score,
    collect,
    table,
    listing,
    figure,


rule all:
    default_target: True
    input:
        dag.targets(),
    message:
        "Every table and figure of every experiment is made."
