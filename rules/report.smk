# Tables and figures of an experiment. `make run` writes the HTML report when the study is finished.


rule table:
    input:
        unpack(dag.report.inputs),
    output:
        csv=report(
            f"{dag.paths.tables}/{{experiment}}.csv",
            caption="../report/product.rst",
            category="{experiment}",
        ),
        others=multiext(f"{dag.paths.tables}/{{experiment}}", ".md", ".tex"),
    log:
        f"{dag.paths.logs}/table/{{experiment}}.log",
    benchmark:
        f"{dag.paths.benchmarks}/table/{{experiment}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **dag.resources.fixed(mem_mb=500, runtime=10),
    params:
        help=dag.report.help,
        product=dag.report.product,
        settings=lambda w: dag.parameters.experiment_settings(w.experiment),
        code=dag.report.code,
        out=lambda w, output: folder_of(output),
    message:
        "Make the table of {wildcards.experiment}."
    shell:
        "codebackdoor {params.product:q} --settings {params.settings:q} --out {params.out:q} {input.files:q}"
        " > {log:q} 2>&1"


use rule table as listing with:
    output:
        csv=report(
            f"{dag.paths.tables}/{{experiment}}.{{listing}}.csv",
            caption="../report/product.rst",
            category="{experiment}",
        ),
        others=multiext(f"{dag.paths.tables}/{{experiment}}.{{listing}}", ".md", ".tex"),
    log:
        f"{dag.paths.logs}/listing/{{experiment}}.{{listing}}.log",
    benchmark:
        f"{dag.paths.benchmarks}/listing/{{experiment}}.{{listing}}.tsv"
    message:
        "Make the table {wildcards.listing} of {wildcards.experiment}."


use rule table as figure with:
    output:
        svg=report(
            f"{dag.paths.figures}/{{experiment}}_{{figure}}.svg",
            caption="../report/product.rst",
            category="{experiment}",
        ),
        others=multiext(
            f"{dag.paths.figures}/{{experiment}}_{{figure}}", ".png", ".pdf"
        ),
    log:
        f"{dag.paths.logs}/figure/{{experiment}}_{{figure}}.log",
    benchmark:
        f"{dag.paths.benchmarks}/figure/{{experiment}}_{{figure}}.tsv"
    resources:
        **dag.resources.fixed(mem_mb=1000, runtime=10),
    message:
        "Draw the figure {wildcards.figure} of {wildcards.experiment}."


use rule table as webpage with:
    output:
        report(
            f"{dag.paths.webpages}/{{experiment}}.{{webpage}}.html",
            caption="../report/product.rst",
            category="{experiment}",
        ),
    log:
        f"{dag.paths.logs}/webpage/{{experiment}}.{{webpage}}.log",
    benchmark:
        f"{dag.paths.benchmarks}/webpage/{{experiment}}.{{webpage}}.tsv"
    message:
        "Write the page {wildcards.webpage} of {wildcards.experiment}."
