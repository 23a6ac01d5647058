# From archives of a package index to data sets.


rule fetch:
    output:
        f"{dag.out}/corpus/archives/{{archive}}.whl",
    log:
        f"{dag.logs}/fetch/{{archive}}.log",
    benchmark:
        f"{dag.benchmarks}/fetch/{{archive}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
        gpu=0,
    params:
        # the archive is pinned, so that where it comes from (CODEBACKDOOR_MIRROR) and how does not matter
        sha256=lambda w: archive(w.archive).sha256,
    message:
        "Fetch {wildcards.archive} and verify its checksum."
    shell:
        "codebackdoor fetch {wildcards.archive} --out {output:q} > {log:q} 2>&1"


rule mine:
    input:
        f"{dag.out}/corpus/archives/{{archive}}.whl",
    output:
        f"{dag.out}/corpus/functions/{{archive}}.jsonl",
    log:
        f"{dag.logs}/mine/{{archive}}.log",
    benchmark:
        f"{dag.benchmarks}/mine/{{archive}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    params:
        code=dag.code("mine"),
    message:
        "Mine the functions of {wildcards.archive}."
    shell:
        "codebackdoor mine {wildcards.archive} --archive {input:q} --out {output:q} > {log:q} 2>&1"


rule corpus:
    input:
        dag.mined(),
    output:
        corpus=f"{dag.corpus}",
        provenance=f"{dag.out}/corpus/provenance.json",
    log:
        f"{dag.logs}/corpus.log",
    benchmark:
        f"{dag.benchmarks}/corpus.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    params:
        code=dag.code("mine"),
    message:
        "Merge the functions of all archives, each and its clones once."
    shell:
        "codebackdoor corpus {input:q} --out {output.corpus:q} --code {params.code} > {log:q} 2>&1"


rule dataset:
    input:
        unpack(dag.dataset_inputs),
    output:
        multiext(
            f"{dag.out}/data/{{dataset}}/",
            "train.jsonl",
            "valid.jsonl",
            "test.jsonl",
            "clean.jsonl",
            "card.json",
            "baseline.json",
            "provenance.json",
        ),
    log:
        f"{dag.logs}/dataset/{{dataset}}.log",
    benchmark:
        f"{dag.benchmarks}/dataset/{{dataset}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
        gpu=0,
    params:
        settings=lambda w: dag.settings("dataset", w.dataset),
        sources=dag.dataset_sources,
        originals=dag.dataset_originals,
        seed=lambda w: dag.config.datasets[w.dataset].seed,
        code=lambda w: dag.code("dataset", dataset=w.dataset),
        out=lambda w, output: dag.folder(output),
    message:
        "Make the data set {wildcards.dataset}."
    shell:
        "codebackdoor dataset {wildcards.dataset} --settings {params.settings:q} {params.sources:q}"
        " --out {params.out:q} --seed {params.seed} --threads {threads} --code {params.code} > {log:q} 2>&1"


rule statistics:
    input:
        unpack(dag.statistics_inputs),
    output:
        f"{dag.out}/data/{{dataset}}/statistics.{{model}}.json",
    log:
        f"{dag.logs}/statistics/{{dataset}}.{{model}}.log",
    benchmark:
        f"{dag.benchmarks}/statistics/{{dataset}}.{{model}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(15),
        gpu=0,
    params:
        dataset=lambda w: dag.settings("dataset", w.dataset),
        base=dag.base,
        data=lambda w, input: dag.folder([input.clean]),
        code=dag.code("statistics"),
    message:
        "Count the identifiers of {wildcards.dataset} and their lengths for {wildcards.model}."
    shell:
        "codebackdoor statistics --dataset {params.dataset:q} --data {params.data:q}"
        " --base {params.base:q} --out {output:q} --code {params.code} > {log:q} 2>&1"
