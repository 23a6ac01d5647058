from pathlib import Path

from snakemake.utils import min_version

from codebackdoor.config.loading import read_yaml, validate
from codebackdoor.config.scenario import (
    AUDIT,
    AUDITED,
    CONSTRAINTS,
    EXECUTE,
    KEPT,
    NONE,
    POSITIONS,
    PROBE,
    STATES,
    STATES_RECORD,
)
from codebackdoor.corpora.archives import archive
from codebackdoor.dag import Dag
from codebackdoor.dag.files import model_files
from codebackdoor.dag.paths import folder_of
from codebackdoor.dag.testsets import BENIGN_PURIFIED, POISONED, SOME
from codebackdoor.errors import UserError
from codebackdoor.report.products import FIGURES, LISTINGS, WEBPAGES
from codebackdoor.runs import local_jobs
from codebackdoor.trials import FILE as TESTS
from codebackdoor.types import CLEAN

min_version("9.6")


configfile: "config.yaml"


report: "report/workflow.rst"


try:
    # Snakemake has read them already, but it silently keeps the last of two equal keys
    for path in workflow.configfiles:
        read_yaml(Path(path))
    dag = Dag(validate(config))
    dag.check_files(workflow.configfiles)
except UserError as error:
    raise WorkflowError(str(error))
dag.export_mirror()


wildcard_constraints:
    **CONSTRAINTS,
    experiment=CONSTRAINTS["dataset"],
    figure="|".join(FIGURES),
    listing="|".join(LISTINGS),
    webpage="|".join(WEBPAGES),
    archive=r"[a-z0-9_.-]+",
    base_model=CONSTRAINTS["model"],


include: "rules/data.smk"
include: "rules/poison.smk"
include: "rules/train.smk"
include: "rules/defend.smk"
include: "rules/evaluate.smk"
include: "rules/collect.smk"
include: "rules/report.smk"


# `make settle` must not end the jobs of a run that is still alive, here or on another host
onstart:
    # on a cluster, generated programs run on another machine than this
    if workflow.local_exec:
        try:
            dag.check_isolation(workflow.dag.needrun_jobs())
        except UserError as error:
            raise WorkflowError(str(error))
    local_jobs.mark_started()
    text, jobs = dag.announcement(
        workflow.dag.needrun_jobs(), workflow.cores if workflow.local_exec else None
    )
    logger.info(text, extra={"run": jobs})
    # Once a second, Snakemake looks at every finished job to limit the rate of new ones (its pull request 3744), which
    # takes a fifth of a core after a hundred jobs. Local jobs need no limit; for a cluster it stays.
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


onsuccess:
    local_jobs.mark_ended()


onerror:
    local_jobs.mark_ended()


# on a cluster, these run where Snakemake does: downloads need the network, the others take seconds
localrules:
    all,
    base_models,
    fetch,
    audit,
    score,
    collect,
    table,
    listing,
    figure,
    webpage,


rule all:
    default_target: True
    input:
        dag.targets(),
    message:
        "All tables and figures are finished."
