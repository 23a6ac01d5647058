# Defenses: they drop training rows, edit the weights of a trained victim, or rewrite test inputs.


# A filter that does not look at a victim: all victims share the rows that it keeps.
rule filter:
    input:
        unpack(dag.defend.filter.inputs),
    output:
        multiext(
            f"{dag.paths.filtered}/",
            "train.jsonl",
            "judged.jsonl",
            "filtering.json",
            "provenance.json",
        ),
    log:
        dag.paths.log("filter", dag.paths.filtered),
    benchmark:
        dag.paths.benchmark("filter", dag.paths.filtered)
    wildcard_constraints:
        filtering=dag.testsets.filterings(reads_victim=False),
    # the training of victims waits for this
    priority: 40
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.helpers("filtering"),
    params:
        settings=lambda w: dag.parameters.settings("filtering", w.filtering),
        dataset=lambda w: dag.parameters.settings("dataset", w.dataset),
        inputs=dag.defend.filter.options,
        code=lambda w: dag.parameters.code("filter", filtering=w.filtering),
        out=lambda w, output: folder_of(output),
    message:
        "Filter the training rows of {wildcards.dataset} by {wildcards.filtering}, {wildcards.attack} {wildcards.rate},"
        " seed {wildcards.seed}."
    shell:
        "codebackdoor filter --settings {params.settings:q} --dataset {params.dataset:q}"
        " {params.inputs:q} --out {params.out:q} --seed {wildcards.seed}"
        " --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"


# Train, filter, train again: a filter that looks at the unfiltered victim of a model that its settings name. All victims
# share the rows that it keeps.
use rule filter as filter_by_model with:
    input:
        unpack(dag.defend.filter_by_victim.inputs),
    log:
        dag.paths.log("filter_by_model", dag.paths.filtered),
    benchmark:
        dag.paths.benchmark("filter_by_model", dag.paths.filtered)
    wildcard_constraints:
        filtering=dag.testsets.filterings(reads_victim=True),
    resources:
        **dag.resources.filter_by_victim,
    params:
        inputs=dag.defend.filter_by_victim.options,
        code=dag.defend.filter_by_victim_code,


# The same, but it looks at the unfiltered victim of each model, and keeps different rows for each.
use rule filter_by_model as filter_by_victim with:
    output:
        multiext(
            f"{dag.paths.filtered_by_victim}/",
            "train.jsonl",
            "judged.jsonl",
            "filtering.json",
            "provenance.json",
        ),
    log:
        dag.paths.log("filter_by_victim", dag.paths.filtered_by_victim),
    benchmark:
        dag.paths.benchmark("filter_by_victim", dag.paths.filtered_by_victim)
    wildcard_constraints:
        filtering=dag.testsets.filterings(reads_victim=True, is_shared=False),
    message:
        "Filter the training rows of {wildcards.dataset} for {wildcards.model} by {wildcards.filtering},"
        " {wildcards.attack} {wildcards.rate}, seed {wildcards.seed}."


rule eliminate:
    input:
        unpack(dag.defend.eliminate.inputs),
    output:
        multiext(
            f"{dag.paths.victim}/",
            *model_files(
                "README.md", "trigger.json", "elimination.json", "provenance.json"
            ),
        ),
    log:
        dag.paths.log("eliminate", dag.paths.victim),
    benchmark:
        dag.paths.benchmark("eliminate", dag.paths.victim)
    wildcard_constraints:
        elimination=SOME,
    priority: 20
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.victim,
    params:
        settings=dag.defend.eliminate_settings,
        dataset=lambda w: dag.parameters.settings("dataset", w.dataset),
        inputs=dag.defend.eliminate.options,
        code=lambda w: dag.parameters.code(
            "eliminate", model=w.model, elimination=w.elimination
        ),
        out=lambda w, output: folder_of(output),
    message:
        "Clean {wildcards.model} on {wildcards.dataset} by {wildcards.elimination}, {wildcards.attack} {wildcards.rate},"
        " {wildcards.filtering}, {wildcards.objective}, seed {wildcards.seed}."
    shell:
        "codebackdoor eliminate --settings {params.settings:q} --dataset {params.dataset:q}"
        " {params.inputs:q} --out {params.out:q} --seed {wildcards.seed}"
        " --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"


# The label scan on benign victims. It runs only if the setting `calibration` names its output.
rule calibrate:
    input:
        unpack(dag.defend.calibrate.inputs),
    output:
        dag.paths.calibration,
    log:
        f"{dag.paths.logs}/calibrate/{{dataset}}/{{model}}/{{elimination}}.log",
    benchmark:
        f"{dag.paths.benchmarks}/calibrate/{{dataset}}/{{model}}/{{elimination}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.victim,
    params:
        settings=dag.defend.calibrate_settings,
        dataset=lambda w: dag.parameters.settings("dataset", w.dataset),
        inputs=dag.defend.calibrate.options,
        code=lambda w: dag.parameters.code(
            "calibrate", model=w.model, elimination=w.elimination
        ),
    message:
        "Calibrate {wildcards.elimination} on benign {wildcards.model} victims of {wildcards.dataset}."
    shell:
        "codebackdoor calibrate --settings {params.settings:q} --dataset {params.dataset:q} {params.inputs:q}"
        " --out {output:q} --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"


# A purification that does not look at the victim rewrites each test set once, for all victims.
rule rewrite:
    input:
        unpack(dag.defend.rewrite.inputs),
    output:
        multiext(f"{dag.paths.rewritten}/", "purified.jsonl", "provenance.json"),
    log:
        dag.paths.log("rewrite", dag.paths.rewritten),
    benchmark:
        dag.paths.benchmark("rewrite", dag.paths.rewritten)
    wildcard_constraints:
        purification=dag.testsets.purifications(reads_victim=False),
    priority: 20
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.helpers("purification"),
    params:
        settings=lambda w: dag.parameters.settings("purification", w.purification),
        dataset=lambda w: dag.parameters.settings("dataset", w.dataset),
        inputs=dag.defend.rewrite.options,
        code=lambda w: dag.parameters.code("rewrite", purification=w.purification),
        out=lambda w, output: folder_of(output),
    message:
        "Rewrite test inputs of {wildcards.dataset} by {wildcards.purification}, {wildcards.attack} {wildcards.rate},"
        " seed {wildcards.seed}."
    shell:
        "codebackdoor rewrite --settings {params.settings:q} --dataset {params.dataset:q}"
        " {params.inputs:q} --out {params.out:q} --seed {wildcards.seed}"
        " --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"


# What a purification measures on a victim's inputs, once for all variants that differ only in how they decide.
rule suspect:
    input:
        unpack(dag.defend.suspect.inputs),
    output:
        multiext(
            f"{dag.paths.evidence}/",
            *POISONED.files("evidence"),
            "calibration.jsonl",
            "evidence.json",
            "provenance.json",
        ),
    log:
        dag.paths.log("suspect", dag.paths.results),
    benchmark:
        dag.paths.benchmark("suspect", dag.paths.results)
    wildcard_constraints:
        purification=dag.testsets.measuring,
        attack=POISONED.attack,
    priority: 20
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.victim,
    params:
        settings=dag.defend.suspect_settings,
        dataset=lambda w: dag.parameters.settings("dataset", w.dataset),
        inputs=dag.defend.suspect.options,
        code=lambda w: dag.parameters.code(
            "suspect", model=w.model, purification=w.purification
        ),
        out=lambda w, output: folder_of(output),
    message:
        "Measure the suspicion of inputs of {wildcards.model} on {wildcards.dataset} by {wildcards.purification},"
        " {wildcards.attack} {wildcards.rate}, {wildcards.filtering}, {wildcards.objective}, {wildcards.elimination},"
        " seed {wildcards.seed}."
    shell:
        "codebackdoor suspect --settings {params.settings:q} --dataset {params.dataset:q}"
        " {params.inputs:q} --out {params.out:q} --seed {wildcards.seed}"
        " --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"


use rule suspect as suspect_benign with:
    output:
        multiext(
            f"{dag.paths.evidence}/",
            *BENIGN_PURIFIED.files("evidence"),
            "calibration.jsonl",
            "evidence.json",
            "provenance.json",
        ),
    wildcard_constraints:
        purification=dag.testsets.measuring,
        attack=BENIGN_PURIFIED.attack,


# A purification that looks at the victim rewrites all test sets of a scenario in one job.
rule purify:
    input:
        unpack(dag.defend.purify.inputs),
    output:
        multiext(
            f"{dag.paths.results}/",
            *POISONED.files("predictions", "purified"),
            "provenance.json",
        ),
    log:
        dag.paths.log("purify", dag.paths.results),
    benchmark:
        dag.paths.benchmark("purify", dag.paths.results)
    wildcard_constraints:
        purification=dag.testsets.purifications(reads_victim=True),
        attack=POISONED.attack,
    priority: 20
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.victim,
    params:
        settings=lambda w: dag.parameters.settings("purification", w.purification),
        dataset=lambda w: dag.parameters.settings("dataset", w.dataset),
        inputs=dag.defend.purify.options,
        code=dag.defend.purify_code,
        out=lambda w, output: folder_of(output),
    message:
        "Purify inputs of {wildcards.model} on {wildcards.dataset} by {wildcards.purification}, {wildcards.attack}"
        " {wildcards.rate}, {wildcards.filtering}, {wildcards.objective}, {wildcards.elimination}, seed {wildcards.seed}."
    shell:
        "codebackdoor purify --settings {params.settings:q} --dataset {params.dataset:q}"
        " {params.inputs:q} --out {params.out:q} --seed {wildcards.seed}"
        " --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"


# For a benign victim, only the clean test set is purified.
use rule purify as purify_benign with:
    output:
        multiext(
            f"{dag.paths.results}/",
            *BENIGN_PURIFIED.files("predictions", "purified"),
            "provenance.json",
        ),
    wildcard_constraints:
        purification=dag.testsets.purifications(reads_victim=True),
        attack=BENIGN_PURIFIED.attack,
