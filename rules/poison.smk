# Attacks: poisoned training sets and triggered test sets.


rule poison:
    input:
        multiext(
            f"{dag.out}/data/{{dataset}}/", "train.jsonl", "valid.jsonl", "test.jsonl"
        ),
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
        mem_mb=growing(1500),
        runtime=growing(30),
        gpu=0,
    params:
        settings=lambda w: dag.settings("attack", w.attack),
        dataset=lambda w: dag.settings("dataset", w.dataset),
        code=lambda w: dag.code("poison", attack=w.attack),
        data=lambda w, input: dag.folder(input),
        out=lambda w, output: dag.folder(output),
    message:
        "Poison {wildcards.rate} of {wildcards.dataset} with {wildcards.attack}, seed {wildcards.seed}."
    shell:
        "codebackdoor poison {wildcards.attack} --settings {params.settings:q} --dataset {params.dataset:q}"
        " --rate {wildcards.rate} --data {params.data:q} --out {params.out:q} --seed {wildcards.seed} --code {params.code}"
        " > {log:q} 2>&1"
