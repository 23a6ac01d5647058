from pathlib import Path

from snakemake.utils import min_version

from codebackdoor.config.loading import read_yaml, validate
from codebackdoor.config.scenario import (
    AUDIT,
    AUDITED,
    CONSTRAINTS,
    EPOCH_WEIGHTS,
    EXECUTE,
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
    # Snakemake has already read these files, but if a key occurs twice it silently keeps the last one; read_yaml reports it
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


# Marks this run as alive, because `make settle` must not end the jobs of a running study, here or on another host.
onstart:
    # only locally: on a cluster, generated programs run on other machines
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
    # To limit the rate of new jobs, Snakemake looks at every finished job once a second (its pull request 3744), which takes
    # a fifth of a core after a hundred jobs. Local jobs need no limit; on a cluster, it stays.
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


onsuccess:
    local_jobs.mark_ended()


onerror:
    local_jobs.mark_ended()


# On a cluster, these rules run on Snakemake's own node: downloads need the network, and the others take only seconds.
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
