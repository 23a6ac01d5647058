# Attacks: poisoned training sets and triggered test sets.


rule poison:
    input:
        unpack(dag.poison.poison.inputs),
    output:
        multiext(
            f"{dag.paths.poison}/",
            "train.jsonl",
            "valid.jsonl",
            "test.jsonl",
            "manifest.json",
            "provenance.json",
        ),
    log:
        dag.paths.log("poison", dag.paths.poison),
    benchmark:
        dag.paths.benchmark("poison", dag.paths.poison)
    wildcard_constraints:
        attack=SOME,
        dataset=dag.testsets.datasets(has_victims=True),
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.attack(mem_mb=1500, runtime=30),
    params:
        settings=lambda w: dag.parameters.settings("attack", w.attack),
        dataset=lambda w: dag.parameters.settings("dataset", w.dataset),
        code=dag.poison.code,
        inputs=dag.poison.poison.options,
        out=lambda w, output: folder_of(output),
    message:
        "Poison {wildcards.dataset}, {wildcards.attack} {wildcards.rate}, seed {wildcards.seed}."
    shell:
        "codebackdoor poison {wildcards.attack} --settings {params.settings:q} --dataset {params.dataset:q}"
        " --rate {wildcards.rate} {params.inputs:q} --out {params.out:q} --seed {wildcards.seed}"
        " --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"


# Triggers for a data set of test rows only.
rule trigger:
    input:
        unpack(dag.poison.trigger.inputs),
    output:
        multiext(
            f"{dag.paths.poison}/",
            "test.jsonl",
            "manifest.json",
            "provenance.json",
        ),
    log:
        dag.paths.log("trigger", dag.paths.poison),
    benchmark:
        dag.paths.benchmark("trigger", dag.paths.poison)
    wildcard_constraints:
        attack=SOME,
        dataset=dag.testsets.datasets(has_victims=False),
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.attack(mem_mb=1500, runtime=30),
    params:
        settings=lambda w: dag.parameters.settings("attack", w.attack),
        dataset=lambda w: dag.parameters.settings("dataset", w.dataset),
        code=dag.poison.trigger_code,
        inputs=dag.poison.trigger.options,
        out=lambda w, output: folder_of(output),
    message:
        "Add triggers to {wildcards.dataset}, {wildcards.attack} {wildcards.rate}, seed {wildcards.seed}."
    shell:
        "codebackdoor trigger {wildcards.attack} --settings {params.settings:q} --dataset {params.dataset:q}"
        " {params.inputs:q} --out {params.out:q} --seed {wildcards.seed} --threads {threads} --gpus {resources.gpu}"
        " --code {params.code} > {log:q} 2>&1"
