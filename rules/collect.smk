# The metrics of all scenarios as one long table, for your own statistics, and in the format that DVC reads.


rule collect:
    input:
        dag.collect.metrics(),
    output:
        dag.collect.targets(),
    log:
        f"{dag.paths.logs}/collect.log",
    benchmark:
        f"{dag.paths.benchmarks}/collect.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.fixed(mem_mb=500, runtime=10),
    params:
        code=dag.parameters.code("collect"),
        out=lambda w, output: folder_of(output),
    message:
        "Collect the metrics of all scenarios."
    shell:
        "codebackdoor collect --out {params.out:q} {input:q} > {log:q} 2>&1"
