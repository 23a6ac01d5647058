"""Draw your own figure: flip rate against accuracy, one point for each defended victim of a run.

python examples/plot_metrics.py runs/local OUT.png
"""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt

import codebackdoor


def main(folder: str, out: str) -> None:
    run = codebackdoor.load_run(folder)
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for flip_rate in run.select("flip_rate"):
        scenario = flip_rate.scenario
        accuracy = next(run.select("accuracy", testset="clean", **scenario.wildcards), None)
        if scenario.attack == "none" or flip_rate.value is None or accuracy is None or accuracy.value is None:
            continue
        defense = " + ".join(name for name in (scenario.elimination, scenario.purification) if name != "none")
        axes.scatter(100 * flip_rate.value, 100 * accuracy.value, s=18)
        axes.annotate(defense or "undefended", (100 * flip_rate.value, 100 * accuracy.value), fontsize=6)
    axes.set(xlabel="flip rate, %", ylabel="accuracy, %", title=f"{len(run.scenarios)} scenarios in {folder}")
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    main(*sys.argv[1:])
