# Predictions, and every metric from them.


for kind in dag.kinds_of_victims(purified=False):

    rule:
        name:
            f"predict{kind.suffix}"
        input:
            unpack(dag.predict_inputs),
        output:
            multiext(f"{dag.predicted}/", *kind.files("predictions"), "provenance.json"),
        log:
            f"{dag.logs}/predict/{dag.victim_path}.log",
        benchmark:
            f"{dag.benchmarks}/predict/{dag.victim_path}.tsv"
        wildcard_constraints:
            dataset=kind.dataset,
            attack=kind.attack,
        conda:
            "../envs/environment.yaml"
        threads: 1
        resources:
            mem_mb=dag.mem_mb,
            runtime=dag.runtime,
            gpu=dag.gpu,
        params:
            testsets=dag.predict_options,
            victim=lambda w, input: dag.folder(input.victim),
            code=dag.code("predict"),
            out=lambda w, output: dag.folder(output),
        message:
            "Predict with {wildcards.model} ({wildcards.dataset}, {wildcards.attack}-{wildcards.rate},"
            " {wildcards.objective}, {wildcards.elimination})."
        shell:
            "codebackdoor predict --victim {params.victim:q} {params.testsets:q} --out {params.out:q}"
            " --seed {wildcards.seed} --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"


for kind in dag.kinds_of_victims(purified=True):

    rule:
        name:
            f"predict_rewritten{kind.suffix}"
        input:
            unpack(dag.predict_rewritten_inputs),
        output:
            multiext(
                f"{dag.results}/",
                *kind.files("predictions", "purified"),
                "provenance.json",
            ),
        log:
            f"{dag.logs}/predict_rewritten/{dag.results_path}.log",
        benchmark:
            f"{dag.benchmarks}/predict_rewritten/{dag.results_path}.tsv"
        wildcard_constraints:
            purification=dag.purifications(reads_victim=False),
            dataset=kind.dataset,
            attack=kind.attack,
        conda:
            "../envs/environment.yaml"
        threads: 1
        resources:
            mem_mb=dag.mem_mb,
            runtime=dag.runtime,
            gpu=dag.gpu,
        params:
            testsets=dag.predict_options,
            replacements=dag.replacement_options,
            victim=lambda w, input: dag.folder(input.victim),
            code=dag.code("predict"),
            out=lambda w, output: dag.folder(output),
        message:
            "Predict with {wildcards.model} ({wildcards.dataset}, {wildcards.attack}-{wildcards.rate},"
            " {wildcards.objective}, {wildcards.elimination}) on what {wildcards.purification} rewrote."
        shell:
            "codebackdoor predict --victim {params.victim:q} {params.testsets:q} {params.replacements:q}"
            " --out {params.out:q} --seed {wildcards.seed} --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"


# With the ground truth at hand: what a trigger does at each identifier, for the figure of positions.
rule probe:
    input:
        unpack(dag.probe_inputs),
    output:
        f"{dag.predicted}/{POSITIONS}",
        f"{dag.predicted}/{PROBE}/provenance.json",
    log:
        f"{dag.logs}/probe/{dag.victim_path}.log",
    benchmark:
        f"{dag.benchmarks}/probe/{dag.victim_path}.tsv"
    wildcard_constraints:
        attack=SOME,
        elimination=SOME,
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=dag.mem_mb,
        runtime=dag.runtime,
        gpu=dag.gpu,
    params:
        settings=lambda w: dag.settings("elimination", w.elimination),
        dataset=lambda w: dag.settings("dataset", w.dataset),
        victim=lambda w, input: dag.folder(input.victim),
        code=dag.code("probe"),
        out=lambda w, output: output[0].rpartition("/")[0],
    message:
        "Probe the identifiers of samples of {wildcards.dataset} with {wildcards.model},"
        " {wildcards.attack}-{wildcards.rate}."
    shell:
        "codebackdoor probe --settings {params.settings:q} --dataset {params.dataset:q} --victim {params.victim:q}"
        " --triggered {input.triggered:q} --clean {input.clean:q} --out {params.out:q} --seed {wildcards.seed}"
        " --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"


rule score:
    input:
        unpack(dag.score_inputs),
    output:
        f"{dag.results}/metrics.json",
        f"{dag.results}/score/provenance.json",
    log:
        f"{dag.logs}/score/{dag.results_path}.log",
    benchmark:
        f"{dag.benchmarks}/score/{dag.results_path}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(20),
        gpu=0,
    params:
        dataset=lambda w: dag.settings("dataset", w.dataset),
        references=dag.reference_options,
        code=lambda w: dag.code("score", dataset=w.dataset),
        out=lambda w, output: dag.folder(output),
    message:
        "Score {wildcards.dataset}, {wildcards.model}, {wildcards.attack}-{wildcards.rate}, {wildcards.objective},"
        " {wildcards.elimination}, {wildcards.purification}."
    shell:
        "codebackdoor score --dataset {params.dataset:q} {params.references:q} --predictions {params.out:q}"
        " --out {params.out:q} --seed {wildcards.seed} --code {params.code} > {log:q} 2>&1"
