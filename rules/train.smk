# Victims, and the base models that they start from.


rule tokenizer:
    input:
        dag.paths.corpus,
    output:
        dag.paths.tokenizer,
    log:
        f"{dag.paths.logs}/tokenizer.log",
    benchmark:
        f"{dag.paths.benchmarks}/tokenizer.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.fixed(mem_mb=2000, runtime=10),
    params:
        size=dag.parameters.vocabulary(),
        text="",
        code=dag.parameters.code("tokenizer"),
    message:
        "Train the byte-level BPE of the base models."
    shell:
        "codebackdoor tokenizer {params.text} --corpus {input:q} --size {params.size} --out {output:q} > {log:q} 2>&1"


use rule tokenizer as tokenizer_english with:
    input:
        dag.paths.prose,
    output:
        dag.paths.english_tokenizer,
    log:
        f"{dag.paths.logs}/tokenizer_english.log",
    benchmark:
        f"{dag.paths.benchmarks}/tokenizer_english.tsv"
    params:
        size=dag.parameters.vocabulary(prose=True),
        text="--prose",
    message:
        "Train the byte-level BPE of the base model of English."


rule pretrain:
    input:
        unpack(dag.train.pretrain.inputs),
    output:
        multiext(
            f"{dag.paths.pretrained}/",
            *model_files("README.md", "recipe.json", "curve.json"),
        ),
    log:
        f"{dag.paths.logs}/pretrain/{{base_model}}.log",
    benchmark:
        f"{dag.paths.benchmarks}/pretrain/{{base_model}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 2
    resources:
        **dag.resources.fixed(mem_mb=4000, runtime=360),
    params:
        settings=lambda w: dag.parameters.pretraining(w.base_model),
        inputs=dag.train.pretrain.options,
        code=dag.parameters.code("pretrain"),
        out=lambda w, output: folder_of(output),
    message:
        "Pretrain the {wildcards.base_model} base model."
    shell:
        "codebackdoor pretrain {wildcards.base_model} --settings {params.settings:q} {params.inputs:q}"
        " --out {params.out:q} --threads {threads} > {log:q} 2>&1"


rule base_models:
    input:
        dag.train.base_models(),
    message:
        "All base models are pretrained."


rule train:
    input:
        unpack(dag.train.train.inputs),
    output:
        multiext(
            f"{dag.paths.trained}/",
            *model_files("README.md", "history.json", "provenance.json"),
        ),
    log:
        dag.paths.log("train", dag.paths.trained),
    benchmark:
        dag.paths.benchmark("train", dag.paths.trained)
    wildcard_constraints:
        objective=dag.testsets.trained(keeps=False),
    # jobs that others wait for and long jobs go first, so that no long job is left for the end
    priority: 30
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.training,
    params:
        model=lambda w: dag.parameters.victim_settings(w.model, w.dataset),
        dataset=lambda w: dag.parameters.settings("dataset", w.dataset),
        objective=lambda w: dag.parameters.settings("objective", w.objective),
        inputs=dag.train.train.options,
        seed=lambda w: w.seed,
        code=lambda w: dag.parameters.code(
            "train", model=w.model, dataset=w.dataset, objective=w.objective
        ),
        out=lambda w, output: folder_of(output),
    message:
        "Train {wildcards.model} on {wildcards.dataset}, {wildcards.attack} {wildcards.rate}, {wildcards.filtering},"
        " {wildcards.objective}, seed {wildcards.seed}."
    shell:
        "codebackdoor train --model {params.model:q} --dataset {params.dataset:q} --objective {params.objective:q}"
        " {params.inputs:q} --out {params.out:q} --seed {params.seed}"
        " --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"


# The same, but keeps the weights after every epoch.
use rule train as train_keeping with:
    output:
        multiext(
            f"{dag.paths.trained}/",
            *model_files("README.md", "history.json", "provenance.json"),
        ),
        f"{dag.paths.trained}/{EPOCH_WEIGHTS}",
    wildcard_constraints:
        objective=dag.testsets.trained(keeps=True),


# A control: the checkpoint of the undefended training that is about as good on clean rows as a defended victim.
rule stop:
    input:
        unpack(dag.train.stop.inputs),
    output:
        multiext(
            f"{dag.paths.trained}/",
            *model_files("README.md", "history.json", "provenance.json"),
        ),
    log:
        dag.paths.log("stop", dag.paths.trained),
    benchmark:
        dag.paths.benchmark("stop", dag.paths.trained)
    wildcard_constraints:
        objective=dag.testsets.stopped,
    priority: 20
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.victim,
    params:
        objective=lambda w: dag.parameters.settings("objective", w.objective),
        inputs=dag.train.stop.options,
        code=lambda w: dag.parameters.code("stop", model=w.model),
        out=lambda w, output: folder_of(output),
    message:
        "Stop {wildcards.model} on {wildcards.dataset}, {wildcards.attack} {wildcards.rate}, {wildcards.filtering},"
        " {wildcards.objective}, seed {wildcards.seed}."
    shell:
        "codebackdoor stop --objective {params.objective:q} {params.inputs:q} --out {params.out:q}"
        " --seed {wildcards.seed} --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"


# The model with which an attack crafts its triggers: a benign victim with a seed of its own, used for nothing else.
use rule train as craft with:
    input:
        unpack(dag.train.craft.inputs),
    output:
        multiext(
            f"{dag.paths.crafting}/",
            *model_files("README.md", "history.json", "provenance.json"),
        ),
    log:
        f"{dag.paths.logs}/craft/{{dataset}}/{{model}}.log",
    benchmark:
        f"{dag.paths.benchmarks}/craft/{{dataset}}/{{model}}.tsv"
    # poisoning waits for this, and the training of victims for poisoning
    priority: 40
    params:
        objective=dag.train.crafting_objective,
        inputs=dag.train.craft.options,
        seed=dag.config.crafting_seed,
        code=lambda w: dag.parameters.code(
            "train", model=w.model, dataset=w.dataset, objective="cross_entropy"
        ),
    message:
        "Train {wildcards.model} on {wildcards.dataset}, for crafting triggers."


rule gradients:
    output:
        f"{dag.paths.losses}/{{objective}}.json",
    log:
        f"{dag.paths.logs}/gradients/{{objective}}.log",
    benchmark:
        f"{dag.paths.benchmarks}/gradients/{{objective}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.fixed(mem_mb=1000, runtime=15),
    params:
        objective=lambda w: dag.parameters.settings("objective", w.objective),
        code=lambda w: dag.parameters.code("gradients", objective=w.objective),
    message:
        "Compute the gradient of the training loss, {wildcards.objective}."
    shell:
        "codebackdoor gradients --objective {params.objective:q} --out {output:q} --code {params.code}"
        " > {log:q} 2>&1"
