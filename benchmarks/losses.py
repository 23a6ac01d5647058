"""Time and memory of the loss DeCE: python benchmarks/losses.py [--threads 1] [--out benchmarks/results/losses.md]

Forward and backward passes of the loss alone on random logits, 12 x 256 tokens and 32 000 classes, against torch's
cross entropy and the paper's formula with dense labels; then training steps of a CodeT5-base and of this project's
small base with cross entropy and with DeCE. The losses take turns in one process. Times are processor time of all
threads, which other programs disturb less than wall-clock time; a ratio is the median over the rounds of DeCE's time
divided by that of cross entropy in the same round. Extra memory is the peak beyond the logits, with a separate process
for each loss.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click
import torch
from torch import Tensor
from torch.nn import functional

from codebackdoor import DeCELoss

Loss = Callable[[Tensor, Tensor], Tensor]
CLASSES, SCALE = 32000, 3.0
CROSS_ENTROPY, DECE = "cross entropy", "DeCE"
#: Maximum multiples of cross entropy: time and extra memory of the loss alone, and time of a whole training step.
TIME_GATE, MEMORY_GATE, STEP_GATE = 1.3, 1.1, 1.05


@dataclass(frozen=True, slots=True)
class Step:
    """A training step of a model: ``rows`` rows of ``tokens`` input and output tokens each, measured in ``rounds``."""

    model: str
    config: Mapping[str, int]
    rows: int
    tokens: int
    rounds: int


STEPS = (
    Step(
        "CodeT5-base",
        {"vocab_size": 32100, "d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
        rows=1,
        tokens=64,
        rounds=3,
    ),
    Step(
        "the small base (basemodels/seq2seq)",
        {"vocab_size": 4096, "d_model": 128, "d_ff": 512, "d_kv": 32, "num_layers": 2, "num_heads": 4},
        rows=8,
        tokens=128,
        rounds=9,
    ),
)


def dense(logits: Tensor, targets: Tensor) -> Tensor:
    """The three formulas of the paper's section 4 in the first epoch, with alpha 0.99 and epsilon 0.1."""
    p = logits.softmax(-1)
    label = 0.9 * functional.one_hot(targets, logits.shape[1]) + 0.1 / logits.shape[1]
    return -(label * (0.99 * p + 0.01 * label).log()).sum(-1).mean()


LOSSES: dict[str, Loss] = {
    CROSS_ENTROPY: functional.cross_entropy,
    DECE: DeCELoss(),
    "DeCE, epsilon 0": DeCELoss(epsilon=0),
    "DeCE, dense formula": dense,
}


def drawn(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(rows, CLASSES, generator=generator).mul_(SCALE).requires_grad_()
    return logits, torch.randint(CLASSES, (rows,), generator=generator)


def in_turns(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each function in every round, after a warm-up round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            gc.collect()
            started = time.process_time()
            run()
            times[name].append(time.process_time() - started)
    return {name: seconds[1:] for name, seconds in times.items()}


def ratios(seconds: Sequence[float], plain: Sequence[float]) -> list[float]:
    """The sorted ratios of all rounds."""
    return sorted(time / reference for time, reference in zip(seconds, plain, strict=True))


def of_losses(rows: int, rounds: int) -> dict[str, list[float]]:
    logits, targets = drawn(rows)
    # as in a model, the gradient is passed on and not accumulated in a copy
    return in_turns(
        {name: lambda loss=loss: torch.autograd.grad(loss(logits, targets), logits) for name, loss in LOSSES.items()},  # type: ignore[misc]
        rounds,
    )


def of_steps(case: Step) -> dict[str, list[float]]:
    # imported here because the processes that measure memory do not need it
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(1)
    model = T5ForConditionalGeneration(T5Config(**case.config, decoder_start_token_id=0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids, targets = torch.randint(5, case.config["vocab_size"], (2, case.rows, case.tokens))

    def step(loss: Loss) -> None:
        logits = model(input_ids=ids, decoder_input_ids=targets, use_cache=False).logits
        loss(logits.flatten(0, 1), targets.flatten()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return in_turns({name: lambda name=name: step(LOSSES[name]) for name in (CROSS_ENTROPY, DECE)}, case.rounds)  # type: ignore[misc]


def peak(name: str, rows: int, threads: int) -> float:
    """Megabytes that forward and backward need beyond the logits, in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (name, rows, threads))


def _peak(name: str, rows: int, threads: int) -> float:
    torch.set_num_threads(threads)
    small = drawn(8)
    torch.autograd.grad(LOSSES[name](*small), small[0])
    logits, targets = drawn(rows)
    before = _highest()
    torch.autograd.grad(LOSSES[name](logits, targets), logits)
    return _highest() - before


def _highest() -> float:
    """Peak memory of this process in megabytes (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))) / 1024


def machine() -> str:
    """The processor, and the load average of the last five minutes."""
    described = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next((line.partition(":")[2].strip() for line in described if line.startswith("model name")), "")
    return f"{os.cpu_count()} cores ({name or platform.machine()}), load {os.getloadavg()[1]:.1f}"


def verdict(ratio: float, gate: float) -> str:
    return f"{ratio:.3g}, at most {gate:g}: {'met' if ratio <= gate else '**missed**'}"


def page(rows: int, rounds: int, steps_too: bool, threads: int) -> list[str]:
    seconds = of_losses(rows, rounds)
    memory = {name: peak(name, rows, threads) for name in LOSSES}
    times = {name: ratios(seconds[name], seconds[CROSS_ENTROPY]) for name in LOSSES}
    shares = {name: memory[name] / memory[CROSS_ENTROPY] for name in LOSSES}
    lines = [
        "",
        f"## {threads} thread{'s' if threads > 1 else ''}",
        "",
        f"Before: {machine()}.",
        "",
        "| loss | processor seconds | × cross entropy [least, most] | extra memory, MB | × cross entropy |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {name} | {median(seconds[name]):.3f} | {median(times[name]):.2f} [{times[name][0]:.2f}, "
            f"{times[name][-1]:.2f}] | {memory[name]:.0f} | {shares[name]:.2f} |"
            for name in LOSSES
        ),
        "",
        f"- Time of DeCE alone by that of cross entropy: {verdict(median(times[DECE]), TIME_GATE)}.",
        f"- Extra memory: {verdict(shares[DECE], MEMORY_GATE)}.",
    ]
    for case in STEPS if steps_too else ():
        steps = of_steps(case)
        step_times = ratios(steps[DECE], steps[CROSS_ENTROPY])
        lines.append(
            f"- A training step of {case.model}, {case.rows} x ({case.tokens} + {case.tokens}) tokens, {case.rounds} "
            "rounds: "
            f"{median(steps[CROSS_ENTROPY]):.2f} s with cross entropy, {median(steps[DECE]):.2f} s with DeCE; ratio "
            f"{verdict(median(step_times), STEP_GATE)} [{step_times[0]:.3f}, {step_times[-1]:.3f}]."
        )
    return lines


@click.command()
@click.option("--threads", "counts", type=int, multiple=True, default=(1, 2), show_default=True)
@click.option("--rows", default=12 * 256, show_default=True, help="Tokens.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--steps/--no-steps", "steps_too", default=True, show_default=True, help="Training steps of models.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the page here.")
def main(counts: tuple[int, ...], rows: int, rounds: int, steps_too: bool, out: Path | None) -> None:
    lines = [
        "# Time and memory of the loss DeCE",
        "",
        f"Written by `python benchmarks/losses.py`. Forward and backward on {rows} tokens, {CLASSES} classes, float32, "
        f"all losses in turns: the median of {rounds} rounds. PyTorch "
        f"{torch.__version__}. Seconds are the processor's. *Load* is the mean number of processes that wanted to run "
        "in the last five minutes: above the number of cores, the losses shared them with other programs.",
    ]
    print("\n".join(lines))
    for threads in counts:
        torch.set_num_threads(threads)
        section = page(rows, rounds, steps_too, threads)
        print("\n".join(section), flush=True)
        lines += section
    after = ["", f"After: {machine()}.", ""]
    print("\n".join(after))
    if out is not None:
        out.write_text("\n".join([*lines, *after]), encoding="utf-8")


if __name__ == "__main__":
    main()
