# Victims, and the base models that they start from.


rule tokenizer:
    input:
        f"{dag.out}/corpus/corpus.jsonl",
    output:
        f"{dag.out}/models/base/tokenizer.json",
    log:
        f"{dag.logs}/tokenizer.log",
    benchmark:
        f"{dag.benchmarks}/tokenizer.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
        gpu=0,
    params:
        size=dag.vocabulary(),
        code=dag.code("tokenizer"),
    message:
        "Train the byte-level BPE of the base models."
    shell:
        "codebackdoor tokenizer --corpus {input:q} --size {params.size} --out {output:q} > {log:q} 2>&1"


rule pretrain:
    input:
        unpack(dag.pretrain_inputs),
        corpus=f"{dag.out}/corpus/corpus.jsonl",
        tokenizer=f"{dag.out}/models/base/tokenizer.json",
    output:
        multiext(
            f"{dag.out}/models/base/{{family}}/",
            *model_files("README.md", "recipe.json", "curve.json"),
        ),
    log:
        f"{dag.logs}/pretrain/{{family}}.log",
    benchmark:
        f"{dag.benchmarks}/pretrain/{{family}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=growing(4000),
        runtime=growing(360),
        gpu=0,
    params:
        settings=lambda w: dag.pretraining(w),
        generator=dag.generator_options,
        code=dag.code("pretrain"),
        out=lambda w, output: dag.folder(output),
    message:
        "Pretrain the {wildcards.family} base model."
    shell:
        "codebackdoor pretrain {wildcards.family} --settings {params.settings:q} --corpus {input.corpus:q}"
        " --tokenizer {input.tokenizer:q} {params.generator:q} --out {params.out:q} --threads {threads} > {log:q} 2>&1"


rule base_models:
    input:
        dag.base_models(),
    message:
        "Every base model of the section `pretraining` is pretrained."


rule train:
    input:
        unpack(dag.train_inputs),
    output:
        multiext(
            f"{dag.trained}/",
            *model_files("README.md", "history.json", "provenance.json"),
        ),
    log:
        f"{dag.logs}/train/{dag.trained_path}.log",
    benchmark:
        f"{dag.benchmarks}/train/{dag.trained_path}.tsv"
    # what others wait for, and what takes longest, goes first: no long job is then left for the end
    priority: 30
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=dag.mem_mb,
        runtime=dag.runtime,
        gpu=dag.gpu,
    params:
        model=lambda w: dag.settings("model", w.model),
        dataset=lambda w: dag.settings("dataset", w.dataset),
        objective=lambda w: dag.settings("objective", w.objective),
        options=dag.train_options,
        base=dag.base,
        code=lambda w: dag.code("train", dataset=w.dataset, objective=w.objective),
        out=lambda w, output: dag.folder(output),
    message:
        "Train {wildcards.model} on {wildcards.dataset} with {wildcards.attack}-{wildcards.rate} by {wildcards.objective},"
        " seed {wildcards.seed}."
    shell:
        "codebackdoor train --model {params.model:q} --dataset {params.dataset:q} --objective {params.objective:q}"
        " --train {input.train:q} --valid {input.valid:q} {params.options:q} --base {params.base:q}"
        " --out {params.out:q} --seed {wildcards.seed} --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"


# The model by which an attack crafts its triggers: a benign victim of its own seed, which nothing else ever asks.
rule craft:
    input:
        unpack(dag.craft_inputs),
    output:
        multiext(
            f"{dag.crafting}/",
            *model_files("README.md", "history.json", "provenance.json"),
        ),
    log:
        f"{dag.logs}/craft/{{dataset}}/{{model}}.log",
    benchmark:
        f"{dag.benchmarks}/craft/{{dataset}}/{{model}}.tsv"
    # what poisons with it, and then whole victims, wait for it
    priority: 40
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=dag.mem_mb,
        runtime=dag.runtime,
        gpu=dag.gpu,
    params:
        model=lambda w: dag.settings("model", w.model),
        dataset=lambda w: dag.settings("dataset", w.dataset),
        objective=dag.settings("objective", "cross_entropy"),
        base=dag.base,
        code=lambda w: dag.code("train", dataset=w.dataset, objective="cross_entropy"),
        seed=dag.config.crafting_seed,
        out=lambda w, output: dag.folder(output),
    message:
        "Train {wildcards.model} on {wildcards.dataset} for an attack to craft triggers by."
    shell:
        "codebackdoor train --model {params.model:q} --dataset {params.dataset:q} --objective {params.objective:q}"
        " --train {input.train:q} --valid {input.valid:q} --base {params.base:q}"
        " --out {params.out:q} --seed {params.seed} --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"
