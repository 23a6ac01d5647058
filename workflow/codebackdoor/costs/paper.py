"""The bill of a study with hub checkpoints as text: jobs, GPU hours, storage.

No GPU was measured: hours are counted operations (``work``) at a stated share of a stated GPU's rate. The counts were
checked by measurements on a CPU (``throughput.json``, benchmarks/throughput.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from codebackdoor.config.model_settings import ModelSettings
from codebackdoor.config.study import Config
from codebackdoor.costs.bill import A100, CostLine, Training, lines, read, trainings_used
from codebackdoor.costs.memory import BYTES, progress_gigabytes


def plan(config: Config, limit: float) -> str:
    """The bill as a table, its assumptions, and the jobs that exceed the ``limit`` of a scheduler, in hours."""
    bill = lines(config)
    width = max(len(line.name) for line in bill)
    total = CostLine(
        "total",
        sum(line.jobs for line in bill),
        sum(line.hours for line in bill),
        sum(line.gigabytes for line in bill),
    )
    rows = [f"{'jobs of hub checkpoints':{width}} {'jobs':>5} {'GPU hours':>10} {'GB':>7}"]
    for line in [*bill, total]:
        numbers = f"{line.hours:10.1f} {line.gigabytes:7.1f}" if line.priced else f"{'?':>10} {'?':>7}"
        rows.append(f"{line.name:{width}} {line.jobs:5} {numbers}")
    reached = "; ".join(
        f"{device[model]['training_gflops'] / device['matmul_gflops'][kind]:.0%} ({model}, {name})"
        for name, device in read("throughput.json")["devices"].items()
        for kind in ["bfloat16" if "bfloat16" in device["matmul_gflops"] else "float32"]
        for model in ("codebert", "codet5")
    )
    rows += [
        "",
        *_not_priced(bill),
        f"Not measured on a GPU: counted operations at {A100.share:.0%} of an A100's {A100.bfloat16 / 1e12:.0f} "
        "TFLOP/s in training (bfloat16)",
        f"and {A100.float32 / 1e12:.1f} in prediction (float32), and {A100.step} s per decoding step. For training, "
        "the same count reaches",
        f"this share of the rate of one large matrix product: {reached}.",
        "This is the whole study, including what is already there. Scores, tables and figures come on top, minutes "
        "without a GPU.",
        *_memory(trainings_used(config)),
        "",
        *_beyond(bill, limit),
    ]
    return "\n".join(rows)


def _memory(trainings: Mapping[str, Training]) -> list[str]:
    """Sentences on the memory of trainings and of loaded victims, and on the disk for the progress of a training."""
    if not trainings:
        return []
    each = ", ".join(
        f"{name} {training.gigabytes:.1f} GB ({_memory_content(training.recipe)})"
        for name, training in trainings.items()
    )
    read_as = {name: BYTES["float32"] * training.size.parameters / 1e9 for name, training in trainings.items()}
    largest = max(progress_gigabytes(training.size, training.recipe) for training in trainings.values())
    return [
        f"Memory of the accelerator for a training, without the states of its batches: {each}.",
        "Predictions and defenses read the weights as float32, whatever their format is in the folder: "
        + ", ".join(f"{name} {gigabytes:.1f} GB" for name, gigabytes in read_as.items())
        + ".",
        f"Checkpoints for resuming a training take up to {largest:.1f} GB of disk more, and twice as much while a new "
        "one is written.",
    ]


def _memory_content(recipe: ModelSettings) -> str:
    """What a training keeps in memory, in words."""
    if recipe.adapters is not None:
        content = f"weights in {recipe.weights}, adapters of rank {recipe.adapters.rank} with AdamW"
    elif recipe.optimizer == "badam":
        content = f"weights in {recipe.weights}, gradients and moments of one block"
    else:
        content = f"weights, gradients and AdamW's two moments in {recipe.weights}"
    return content + (", the best weights" if recipe.checkpoint == "best" else "")


def _not_priced(bill: list[CostLine]) -> list[str]:
    names = [line.name for line in bill if not line.priced]
    return [f"?: not priced, and not in the total: {'; '.join(names)}."] if names else []


def _beyond(bill: list[CostLine], limit: float) -> list[str]:
    """The jobs that are expected to exceed a cluster's limit of ``limit`` hours."""
    long = sorted((line for line in bill if line.longest > limit), key=lambda line: -line.longest)
    if not long:
        return [f"No job is expected to take longer than {limit:g} h, SLURM's limit (docs/hpc.md)."]
    return [
        f"Longer than {limit:g} h a job, where SLURM's limit ends it (docs/hpc.md: another limit, or fewer rows):",
        *(f"  {line.name}: up to {line.longest:.0f} h" for line in long),
    ]
