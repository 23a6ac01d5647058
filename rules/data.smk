# From archives on a package index to data sets.


rule fetch:
    output:
        dag.paths.archive,
    log:
        f"{dag.paths.logs}/fetch/{{archive}}.log",
    benchmark:
        f"{dag.paths.benchmarks}/fetch/{{archive}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.fixed(mem_mb=500, runtime=10),
    params:
        # only the pinned archive: it does not matter where it comes from (the index or a mirror) or what code downloads it
        sha256=lambda w: archive(w.archive).sha256,
    message:
        "Fetch {wildcards.archive} and verify its checksum."
    shell:
        "codebackdoor fetch {wildcards.archive} --out {output:q} > {log:q} 2>&1"


rule mine:
    input:
        dag.paths.archive,
    output:
        dag.paths.functions,
    log:
        f"{dag.paths.logs}/mine/{{archive}}.log",
    benchmark:
        f"{dag.paths.benchmarks}/mine/{{archive}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.fixed(mem_mb=1000, runtime=10),
    params:
        code=dag.parameters.code("mine"),
    message:
        "Mine the functions of {wildcards.archive}."
    shell:
        "codebackdoor mine {wildcards.archive} --archive {input:q} --out {output:q} > {log:q} 2>&1"


rule corpus:
    input:
        dag.data.mined(),
    output:
        corpus=dag.paths.corpus,
        provenance=f"{dag.paths.out}/corpus/provenance.json",
    log:
        f"{dag.paths.logs}/corpus.log",
    benchmark:
        f"{dag.paths.benchmarks}/corpus.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.fixed(mem_mb=1000, runtime=10),
    params:
        code=dag.parameters.code("mine"),
    message:
        "Merge the functions of all archives and remove duplicates."
    shell:
        "codebackdoor corpus {input:q} --out {output.corpus:q} --code {params.code} > {log:q} 2>&1"


# The training text of the English base model; nothing else reads it.
rule prose:
    input:
        unpack(dag.data.prose.inputs),
    output:
        dag.paths.prose,
    log:
        f"{dag.paths.logs}/prose.log",
    benchmark:
        f"{dag.paths.benchmarks}/prose.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.fixed(mem_mb=1000, runtime=20),
    params:
        inputs=dag.data.prose.options,
        code=dag.parameters.code("prose"),
    message:
        "Collect the docstrings and comments of all archives."
    shell:
        "codebackdoor prose {params.inputs:q} --out {output:q} > {log:q} 2>&1"


rule dataset:
    input:
        unpack(dag.data.dataset.inputs),
    output:
        multiext(
            f"{dag.paths.dataset}/",
            "train.jsonl",
            "valid.jsonl",
            "test.jsonl",
            "clean.jsonl",
            "card.json",
            "baseline.json",
            "provenance.json",
        ),
    log:
        f"{dag.paths.logs}/dataset/{{dataset}}.log",
    benchmark:
        f"{dag.paths.benchmarks}/dataset/{{dataset}}.tsv"
    wildcard_constraints:
        dataset=dag.testsets.datasets(has_victims=True),
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.fixed(mem_mb=2000, runtime=30),
    params:
        settings=lambda w: dag.parameters.settings("dataset", w.dataset),
        inputs=dag.data.dataset.options,
        originals=lambda w: dag.files.checksums(w.dataset),
        seed=lambda w: dag.config.datasets[w.dataset].seed,
        code=lambda w: dag.parameters.code("dataset", dataset=w.dataset),
        out=lambda w, output: folder_of(output),
    message:
        "Make the data set {wildcards.dataset}."
    shell:
        "codebackdoor dataset {wildcards.dataset} --settings {params.settings:q} {params.inputs:q}"
        " --out {params.out:q} --seed {params.seed} --threads {threads} --code {params.code} > {log:q} 2>&1"


# A data set of test rows only, on which the victims of another data set predict.
rule testset:
    input:
        unpack(dag.data.testset.inputs),
    output:
        multiext(
            f"{dag.paths.dataset}/",
            "test.jsonl",
            "card.json",
            "baseline.json",
            "provenance.json",
        ),
    log:
        f"{dag.paths.logs}/testset/{{dataset}}.log",
    benchmark:
        f"{dag.paths.benchmarks}/testset/{{dataset}}.tsv"
    wildcard_constraints:
        dataset=dag.testsets.datasets(has_victims=False),
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.fixed(mem_mb=2000, runtime=30),
    params:
        settings=lambda w: dag.parameters.settings("dataset", w.dataset),
        inputs=dag.data.testset.options,
        originals=lambda w: dag.files.checksums(w.dataset),
        seed=lambda w: dag.config.datasets[w.dataset].seed,
        code=lambda w: dag.parameters.code("testset", dataset=w.dataset),
        out=lambda w, output: folder_of(output),
    message:
        "Make the test rows of {wildcards.dataset}."
    shell:
        "codebackdoor testset {wildcards.dataset} --settings {params.settings:q} {params.inputs:q}"
        " --out {params.out:q} --seed {params.seed} --threads {threads} --code {params.code} > {log:q} 2>&1"


# The tests of the test rows, in a separate file that no victim and no defense reads.
rule trials:
    input:
        unpack(dag.data.trials.inputs),
    output:
        f"{dag.paths.dataset}/{TESTS}",
    log:
        f"{dag.paths.logs}/trials/{{dataset}}.log",
    benchmark:
        f"{dag.paths.benchmarks}/trials/{{dataset}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.fixed(mem_mb=1000, runtime=15),
    params:
        settings=lambda w: dag.parameters.settings("dataset", w.dataset),
        inputs=dag.data.trials.options,
        originals=lambda w: dag.files.checksums(w.dataset),
        code=lambda w: dag.parameters.code("trials", dataset=w.dataset),
    message:
        "Write the tests of {wildcards.dataset}."
    shell:
        "codebackdoor trials {wildcards.dataset} --settings {params.settings:q} {params.inputs:q} --out {output:q}"
        " --code {params.code} > {log:q} 2>&1"


rule statistics:
    input:
        unpack(dag.data.statistics.inputs),
    output:
        f"{dag.paths.dataset}/statistics.{{model}}.json",
    log:
        f"{dag.paths.logs}/statistics/{{dataset}}.{{model}}.log",
    benchmark:
        f"{dag.paths.benchmarks}/statistics/{{dataset}}.{{model}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.fixed(mem_mb=1000, runtime=15),
    params:
        dataset=lambda w: dag.parameters.settings("dataset", w.dataset),
        inputs=dag.data.statistics.options,
        code=dag.parameters.code("statistics"),
    message:
        "Count the identifiers of {wildcards.dataset} and their lengths for {wildcards.model}."
    shell:
        "codebackdoor statistics --dataset {params.dataset:q} {params.inputs:q} --out {output:q} --code {params.code}"
        " > {log:q} 2>&1"
