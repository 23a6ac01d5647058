# Every metric of every scenario in one long table, for those who bring their own statistics; and as DVC reads metrics.


rule collect:
    input:
        dag.metrics(),
    output:
        multiext(f"{dag.out}/results/metrics", ".csv", ".json"),
    log:
        f"{dag.logs}/collect.log",
    benchmark:
        f"{dag.benchmarks}/collect.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
        gpu=0,
    params:
        code=dag.code("collect"),
        out=lambda w, output: dag.folder(output),
    message:
        "Collect the metrics of all scenarios."
    shell:
        "codebackdoor collect --out {params.out:q} {input:q} > {log:q} 2>&1"
