# Defenses: training rows that are dropped, edited weights of a trained victim, rewritten inputs.


# A filtering looks at no victim: what it keeps of a training set is the same for all that are trained on it.
rule filter:
    input:
        unpack(dag.filter_inputs),
    output:
        multiext(
            f"{dag.filtered}/",
            "train.jsonl",
            "judged.jsonl",
            "filtering.json",
            "provenance.json",
        ),
    log:
        f"{dag.logs}/filter/{dag.filtered_path}.log",
    benchmark:
        f"{dag.benchmarks}/filter/{dag.filtered_path}.tsv"
    wildcard_constraints:
        filtering=SOME,
    # victims wait for it
    priority: 40
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=dag.filter_mem_mb,
        runtime=dag.filter_runtime,
        gpu=dag.filter_gpu,
    params:
        settings=lambda w: dag.settings("filtering", w.filtering),
        dataset=lambda w: dag.settings("dataset", w.dataset),
        helpers=lambda w: dag.helpers("filtering", w.filtering),
        code=lambda w: dag.code("filter", filtering=w.filtering),
        out=lambda w, output: dag.folder(output),
    message:
        "Filter the training rows of {wildcards.dataset} ({wildcards.attack}-{wildcards.rate}) by {wildcards.filtering},"
        " seed {wildcards.seed}."
    shell:
        "codebackdoor filter --settings {params.settings:q} --dataset {params.dataset:q} --train {input.rows:q}"
        " --clean {input.clean:q} {params.helpers:q} --out {params.out:q} --seed {wildcards.seed}"
        " --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"


rule eliminate:
    input:
        unpack(dag.eliminate_inputs),
    output:
        multiext(
            f"{dag.victim}/",
            *model_files(
                "README.md", "trigger.json", "elimination.json", "provenance.json"
            ),
        ),
    log:
        f"{dag.logs}/eliminate/{dag.victim_path}.log",
    benchmark:
        f"{dag.benchmarks}/eliminate/{dag.victim_path}.tsv"
    wildcard_constraints:
        elimination=SOME,
    priority: 20
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=dag.mem_mb,
        runtime=dag.runtime,
        gpu=dag.gpu,
    params:
        settings=dag.eliminate_settings,
        dataset=lambda w: dag.settings("dataset", w.dataset),
        helpers=lambda w: dag.helpers("elimination", w.elimination),
        inverted=dag.inverted_options,
        victim=lambda w, input: dag.folder(input.victim),
        code=lambda w: dag.code("eliminate", elimination=w.elimination),
        out=lambda w, output: dag.folder(output),
    message:
        "Clean {wildcards.model} ({wildcards.dataset}, {wildcards.attack}-{wildcards.rate}) by {wildcards.elimination}."
    shell:
        "codebackdoor eliminate --settings {params.settings:q} --dataset {params.dataset:q} --victim {params.victim:q}"
        " --clean {input.clean:q} {params.inverted:q} {params.helpers:q} --out {params.out:q} --seed {wildcards.seed}"
        " --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"


# Not part of a study: what a label scan finds on benign victims. The result is named by the setting `calibration`.
rule calibrate:
    input:
        unpack(dag.calibrate_inputs),
    output:
        dag.calibration,
    log:
        f"{dag.logs}/calibrate/{{dataset}}/{{model}}/{{elimination}}.log",
    benchmark:
        f"{dag.benchmarks}/calibrate/{{dataset}}/{{model}}/{{elimination}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=dag.mem_mb,
        runtime=dag.runtime,
        gpu=dag.gpu,
    params:
        settings=dag.calibrate_settings,
        dataset=lambda w: dag.settings("dataset", w.dataset),
        victims=lambda w: options("--victim", dag.shadows(w)),
        code=lambda w: dag.code("eliminate", elimination=w.elimination),
    message:
        "Calibrate {wildcards.elimination} on benign {wildcards.model} victims of {wildcards.dataset}."
    shell:
        "codebackdoor calibrate --settings {params.settings:q} --dataset {params.dataset:q} {params.victims:q}"
        " --clean {input.clean:q} --out {output:q} --threads {threads} --gpus {resources.gpu} --code {params.code}"
        " > {log:q} 2>&1"


# A purification that looks at no victim rewrites each test set once, for all victims.
rule rewrite:
    input:
        unpack(dag.rewrite_inputs),
    output:
        multiext(f"{dag.rewritten}/", "purified.jsonl", "provenance.json"),
    log:
        f"{dag.logs}/rewrite/{dag.rewritten_path}.log",
    benchmark:
        f"{dag.benchmarks}/rewrite/{dag.rewritten_path}.tsv"
    wildcard_constraints:
        purification=dag.purifications(reads_victim=False),
    priority: 20
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=dag.helper_mem_mb,
        runtime=dag.helper_runtime,
        gpu=dag.helper_gpu,
    params:
        settings=lambda w: dag.settings("purification", w.purification),
        dataset=lambda w: dag.settings("dataset", w.dataset),
        helpers=lambda w: dag.helpers("purification", w.purification),
        code=lambda w: dag.code("rewrite", purification=w.purification),
        out=lambda w, output: dag.folder(output),
    message:
        "Rewrite {wildcards.dataset} ({wildcards.attack}-{wildcards.rate}) by {wildcards.purification}."
    shell:
        "codebackdoor rewrite --settings {params.settings:q} --dataset {params.dataset:q} --valid {input.valid:q}"
        " --input {input.rows:q} {params.helpers:q} --out {params.out:q} --seed {wildcards.seed}"
        " --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"


# A purification that looks at the victim rewrites all test sets of a scenario in one job. A poisoned victim reads the
# clean one and its own triggered one, a benign victim the clean one alone: each kind of victim has a rule of its own.
for kind in dag.kinds_of_victims(purified=True):

    rule:
        name:
            f"purify{kind.suffix}"
        input:
            unpack(dag.purify_inputs),
        output:
            multiext(
                f"{dag.results}/",
                *kind.files("predictions", "purified"),
                "provenance.json",
            ),
        log:
            f"{dag.logs}/purify/{dag.results_path}.log",
        benchmark:
            f"{dag.benchmarks}/purify/{dag.results_path}.tsv"
        wildcard_constraints:
            purification=dag.purifications(reads_victim=True),
            dataset=kind.dataset,
            attack=kind.attack,
        priority: 20
        conda:
            "../envs/environment.yaml"
        threads: 1
        resources:
            mem_mb=dag.mem_mb,
            runtime=dag.runtime,
            gpu=dag.gpu,
        params:
            settings=lambda w: dag.settings("purification", w.purification),
            dataset=lambda w: dag.settings("dataset", w.dataset),
            testsets=dag.testset_options,
            trigger=dag.trigger_options,
            helpers=lambda w: dag.helpers("purification", w.purification),
            victim=lambda w, input: dag.folder(input.victim),
            code=lambda w: dag.code("purify", purification=w.purification),
            out=lambda w, output: dag.folder(output),
        message:
            "Purify inputs of {wildcards.model} ({wildcards.dataset}, {wildcards.attack}-{wildcards.rate}) by"
            " {wildcards.purification}."
        shell:
            "codebackdoor purify --settings {params.settings:q} --dataset {params.dataset:q}"
            " --victim {params.victim:q} --valid {input.valid:q} {params.testsets:q} {params.trigger:q}"
            " {params.helpers:q} --out {params.out:q} --seed {wildcards.seed} --threads {threads} --gpus {resources.gpu} --code {params.code} > {log:q} 2>&1"
