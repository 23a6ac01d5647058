# Attacks: poisoned training sets and triggered test sets.


rule poison:
    input:
        unpack(dag.poison_inputs),
    output:
        multiext(
            f"{dag.poison}/",
            "train.jsonl",
            "valid.jsonl",
            "test.jsonl",
            "manifest.json",
            "provenance.json",
        ),
    log:
        f"{dag.logs}/poison/{dag.poison_path}.log",
    benchmark:
        f"{dag.benchmarks}/poison/{dag.poison_path}.tsv"
    wildcard_constraints:
        attack=SOME,
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=dag.poison_mem_mb,
        runtime=dag.poison_runtime,
        gpu=dag.poison_gpu,
    params:
        settings=lambda w: dag.settings("attack", w.attack),
        dataset=lambda w: dag.settings("dataset", w.dataset),
        code=lambda w: dag.code("poison", attack=w.attack),
        data=lambda w, input: dag.folder(input.rows),
        options=dag.poison_options,
        out=lambda w, output: dag.folder(output),
    message:
        "Poison {wildcards.rate} of {wildcards.dataset} with {wildcards.attack}, seed {wildcards.seed}."
    shell:
        "codebackdoor poison {wildcards.attack} --settings {params.settings:q} --dataset {params.dataset:q}"
        " --rate {wildcards.rate} --data {params.data:q} {params.options:q} --out {params.out:q} --seed {wildcards.seed}"
        " --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"
