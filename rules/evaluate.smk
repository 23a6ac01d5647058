# Predictions, and the metrics computed from them.


# One rule for poisoned victims, and one for each data set's benign victims, which all predict on the same test sets.
for kind in dag.testsets.victim_kinds():

    rule:
        name:
            f"predict{kind.suffix}"
        input:
            unpack(dag.evaluate.predict.inputs),
        output:
            multiext(
                f"{dag.paths.predicted}/",
                *kind.files("predictions"),
                "provenance.json",
            ),
        log:
            dag.paths.log("predict", dag.paths.victim),
        benchmark:
            dag.paths.benchmark("predict", dag.paths.victim)
        wildcard_constraints:
            dataset=kind.dataset,
            attack=kind.attack,
        conda:
            "../envs/environment.yaml"
        threads: 1
        resources:
            **dag.resources.victim,
        params:
            inputs=dag.evaluate.predict.options,
            pool=dag.evaluate.pool,
            code=lambda w: dag.parameters.code("predict", model=w.model),
            out=lambda w, output: folder_of(output),
        message:
            "Predict with {wildcards.model} on {wildcards.dataset}, {wildcards.attack} {wildcards.rate},"
            " {wildcards.filtering}, {wildcards.objective}, {wildcards.elimination}, seed {wildcards.seed}."
        shell:
            "codebackdoor predict {params.inputs:q} {params.pool:q} --out {params.out:q}"
            " --seed {wildcards.seed} --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"


use rule predict as predict_rewritten with:
    input:
        unpack(dag.evaluate.predict_rewritten.inputs),
    output:
        multiext(
            f"{dag.paths.results}/",
            *POISONED.files("predictions", "purified"),
            "provenance.json",
        ),
    log:
        dag.paths.log("predict_rewritten", dag.paths.results),
    benchmark:
        dag.paths.benchmark("predict_rewritten", dag.paths.results)
    wildcard_constraints:
        purification=dag.testsets.purifications(reads_victim=False),
        attack=POISONED.attack,
    params:
        inputs=dag.evaluate.predict_rewritten.options,
    message:
        "Predict with {wildcards.model} on {wildcards.dataset}, {wildcards.attack} {wildcards.rate}, {wildcards.filtering},"
        " {wildcards.objective}, {wildcards.elimination}, inputs rewritten by {wildcards.purification}, seed"
        " {wildcards.seed}."


use rule predict_rewritten as predict_rewritten_benign with:
    output:
        multiext(
            f"{dag.paths.results}/",
            *BENIGN_PURIFIED.files("predictions", "purified"),
            "provenance.json",
        ),
    wildcard_constraints:
        purification=dag.testsets.purifications(reads_victim=False),
        attack=BENIGN_PURIFIED.attack,


# The effect of the attacker's trigger at each identifier, for the figure of positions.
rule probe:
    input:
        unpack(dag.evaluate.probe.inputs),
    output:
        f"{dag.paths.predicted}/{POSITIONS}",
        f"{dag.paths.predicted}/{PROBE}/provenance.json",
    log:
        dag.paths.log("probe", dag.paths.victim),
    benchmark:
        dag.paths.benchmark("probe", dag.paths.victim)
    wildcard_constraints:
        attack=SOME,
        elimination=SOME,
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.victim,
    params:
        settings=lambda w: dag.parameters.settings("elimination", w.elimination),
        dataset=lambda w: dag.parameters.settings("dataset", w.dataset),
        inputs=dag.evaluate.probe.options,
        code=lambda w: dag.parameters.code("probe", model=w.model),
        out=lambda w, output: folder_of(output),
    message:
        "Probe identifiers with {wildcards.model} on {wildcards.dataset}, {wildcards.attack} {wildcards.rate},"
        " {wildcards.elimination}, seed {wildcards.seed}."
    shell:
        "codebackdoor probe --settings {params.settings:q} --dataset {params.dataset:q}"
        " {params.inputs:q} --out {params.out:q} --seed {wildcards.seed}"
        " --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"


# Hidden states with and without the trigger, for the figure of states.
rule states:
    input:
        unpack(dag.evaluate.states.inputs),
    output:
        f"{dag.paths.predicted}/{STATES}",
        f"{dag.paths.predicted}/{STATES_RECORD}/provenance.json",
    log:
        dag.paths.log("states", dag.paths.victim),
    benchmark:
        dag.paths.benchmark("states", dag.paths.victim)
    wildcard_constraints:
        attack=SOME,
        elimination=NONE,
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.victim,
    params:
        model=lambda w: dag.parameters.victim_settings(w.model, w.dataset),
        dataset=lambda w: dag.parameters.settings("dataset", w.dataset),
        inputs=dag.evaluate.states.options,
        code=lambda w: dag.parameters.code("states", model=w.model),
        out=lambda w, output: folder_of(output),
    message:
        "Compare hidden states of {wildcards.model} on {wildcards.dataset}, {wildcards.attack} {wildcards.rate}, seed"
        " {wildcards.seed}."
    shell:
        "codebackdoor states --model {params.model:q} --dataset {params.dataset:q}"
        " {params.inputs:q} --out {params.out:q} --seed {wildcards.seed}"
        " --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"


# How well a filtering tells poisoned training rows from clean ones, for the table of filters.
rule audit:
    input:
        unpack(dag.evaluate.audit.inputs),
    output:
        f"{dag.paths.predicted}/{AUDITED}",
        f"{dag.paths.predicted}/{AUDIT}/provenance.json",
    log:
        dag.paths.log("audit", dag.paths.victim),
    benchmark:
        dag.paths.benchmark("audit", dag.paths.victim)
    wildcard_constraints:
        filtering=SOME,
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.fixed(mem_mb=1000, runtime=20),
    params:
        inputs=dag.evaluate.audit.options,
        code=dag.parameters.code("audit"),
        out=lambda w, output: folder_of(output),
    message:
        "Audit the filter {wildcards.filtering} of {wildcards.model} on {wildcards.dataset}, {wildcards.attack}"
        " {wildcards.rate}, seed {wildcards.seed}."
    shell:
        "codebackdoor audit {params.inputs:q} --out {params.out:q} --code {params.code} > {log:q} 2>&1"


# Runs outputs with their rows' tests, for data sets that have tests.
rule execute:
    input:
        unpack(dag.evaluate.execute.inputs),
    output:
        executed=f"{dag.paths.results}/executed.{CLEAN}.jsonl",
        provenance=f"{dag.paths.results}/{EXECUTE}/provenance.json",
    log:
        dag.paths.log("execute", dag.paths.results),
    benchmark:
        dag.paths.benchmark("execute", dag.paths.results)
    conda:
        "../envs/environment.yaml"
    threads: 2
    resources:
        **dag.resources.fixed(mem_mb=2500, runtime=120),
    params:
        inputs=dag.evaluate.execute.options,
        execution=dag.evaluate.execution,
        code=dag.parameters.code("execute"),
    message:
        "Execute the outputs of {wildcards.model} on {wildcards.dataset}, {wildcards.attack} {wildcards.rate},"
        " {wildcards.filtering}, {wildcards.objective}, {wildcards.elimination}, {wildcards.purification}, seed"
        " {wildcards.seed}."
    shell:
        "codebackdoor execute {input.predictions:q} {params.inputs:q} {params.execution:q} --out {output.executed:q}"
        " --workers {threads} --code {params.code} > {log:q} 2>&1"


rule score:
    input:
        unpack(dag.evaluate.score.inputs),
    output:
        f"{dag.paths.results}/metrics.json",
        f"{dag.paths.results}/score/provenance.json",
    log:
        dag.paths.log("score", dag.paths.results),
    benchmark:
        dag.paths.benchmark("score", dag.paths.results)
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.fixed(mem_mb=1000, runtime=20),
    params:
        dataset=lambda w: dag.parameters.settings("dataset", w.dataset),
        inputs=dag.evaluate.score.options,
        code=lambda w: dag.parameters.code("score", dataset=w.dataset),
        out=lambda w, output: folder_of(output),
    message:
        "Score {wildcards.model} on {wildcards.dataset}, {wildcards.attack} {wildcards.rate}, {wildcards.filtering},"
        " {wildcards.objective}, {wildcards.elimination}, {wildcards.purification}, seed {wildcards.seed}."
    shell:
        "codebackdoor score --dataset {params.dataset:q} {params.inputs:q}"
        " --out {params.out:q} --seed {wildcards.seed} --code {params.code} > {log:q} 2>&1"
