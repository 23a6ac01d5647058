# Tables and figures of an experiment; the HTML report is a second call on the finished study (`make run`).


rule table:
    input:
        files=lambda w: dag.product_inputs(w.experiment, "table"),
        sizes=lambda w: dag.size_inputs(w.experiment),
    output:
        csv=report(
            f"{dag.tables}/{{experiment}}.csv",
            caption="../report/product.rst",
            category="{experiment}",
        ),
        others=multiext(f"{dag.tables}/{{experiment}}", ".md", ".tex"),
    log:
        f"{dag.logs}/table/{{experiment}}.log",
    benchmark:
        f"{dag.benchmarks}/table/{{experiment}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
        gpu=0,
    params:
        help=PRODUCTS["table"].help,
        settings=lambda w: dag.experiment(w.experiment),
        code=dag.code("report"),
        out=lambda w, output: dag.folder(output),
    message:
        "Arrange the table of {wildcards.experiment}."
    shell:
        "codebackdoor table {wildcards.experiment} --settings {params.settings:q} --out {params.out:q} {input.files:q}"
        " > {log:q} 2>&1"


rule listing:
    input:
        files=lambda w: dag.product_inputs(w.experiment, w.listing),
        sizes=lambda w: dag.size_inputs(w.experiment),
    output:
        csv=report(
            f"{dag.tables}/{{experiment}}.{{listing}}.csv",
            caption="../report/product.rst",
            category="{experiment}",
        ),
        others=multiext(f"{dag.tables}/{{experiment}}.{{listing}}", ".md", ".tex"),
    log:
        f"{dag.logs}/listing/{{experiment}}.{{listing}}.log",
    benchmark:
        f"{dag.benchmarks}/listing/{{experiment}}.{{listing}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
        gpu=0,
    params:
        help=lambda w: PRODUCTS[w.listing].help,
        settings=lambda w: dag.experiment(w.experiment),
        code=lambda w: dag.code("report", listing=w.listing),
        out=lambda w, output: dag.folder(output),
    message:
        "Arrange the table {wildcards.listing} of {wildcards.experiment}."
    shell:
        "codebackdoor listing {wildcards.experiment} {wildcards.listing} --settings {params.settings:q}"
        " --out {params.out:q} {input.files:q} > {log:q} 2>&1"


rule figure:
    input:
        files=lambda w: dag.product_inputs(w.experiment, w.figure),
        sizes=lambda w: dag.size_inputs(w.experiment),
    output:
        png=report(
            f"{dag.figures}/{{experiment}}_{{figure}}.png",
            caption="../report/product.rst",
            category="{experiment}",
        ),
        pdf=f"{dag.figures}/{{experiment}}_{{figure}}.pdf",
    log:
        f"{dag.logs}/figure/{{experiment}}_{{figure}}.log",
    benchmark:
        f"{dag.benchmarks}/figure/{{experiment}}_{{figure}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    params:
        help=lambda w: PRODUCTS[w.figure].help,
        settings=lambda w: dag.experiment(w.experiment),
        code=lambda w: dag.code("report", figure=w.figure),
        out=lambda w, output: dag.folder(output),
    message:
        "Draw the figure {wildcards.figure} of {wildcards.experiment}."
    shell:
        "codebackdoor figure {wildcards.experiment} {wildcards.figure} --settings {params.settings:q}"
        " --out {params.out:q} {input.files:q} > {log:q} 2>&1"
