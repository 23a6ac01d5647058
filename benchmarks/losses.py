"""Time and memory of the loss DeCE: python benchmarks/losses.py [--threads 1] [--out benchmarks/results/losses.md]

Forward and backward of the loss alone on random logits, 12 x 256 tokens and 32 000 classes, against torch's cross
entropy and the paper's formula written with dense labels; then a training step of a CodeT5-base with each loss. All in
one run, in turns; times are the median of the processor's over the repeats. Extra memory is the peak beyond the logits,
each loss in a process of its own.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import click
import torch
from torch import Tensor
from torch.nn import functional
from transformers import T5Config, T5ForConditionalGeneration

from codebackdoor import DeCELoss

Loss = Callable[[Tensor, Tensor], Tensor]
CLASSES, SCALE = 32000, 3.0
#: Rows and tokens of each in the step of a whole model.
STEP_ROWS, STEP_TOKENS = 2, 256


def dense(logits: Tensor, targets: Tensor) -> Tensor:
    """The three formulas of the paper's section 4 in the first epoch, with alpha 0.99 and epsilon 0.1."""
    p = logits.softmax(-1)
    label = 0.9 * functional.one_hot(targets, logits.shape[1]) + 0.1 / logits.shape[1]
    return -(label * (0.99 * p + 0.01 * label).log()).sum(-1).mean()


LOSSES: dict[str, Loss] = {
    "cross entropy": functional.cross_entropy,
    "DeCE": DeCELoss(),
    "DeCE, epsilon 0": DeCELoss(epsilon=0),
    "DeCE, dense formula": dense,
}


def drawn(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(rows, CLASSES, generator=generator).mul_(SCALE).requires_grad_()
    return logits, torch.randint(CLASSES, (rows,), generator=generator)


def in_turns(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median processor seconds of each, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            gc.collect()
            started = time.process_time()
            run()
            times[name].append(time.process_time() - started)
    return {name: median(seconds[1:]) for name, seconds in times.items()}


def of_losses(rows: int, repeats: int) -> dict[str, float]:
    logits, targets = drawn(rows)
    # the gradient goes on to the layer below, as in a model, and is not copied
    return in_turns(
        {name: lambda loss=loss: torch.autograd.grad(loss(logits, targets), logits) for name, loss in LOSSES.items()},  # type: ignore[misc]
        repeats,
    )


def of_steps(repeats: int) -> dict[str, float]:
    torch.manual_seed(1)
    model = T5ForConditionalGeneration(
        T5Config(vocab_size=32100, d_model=768, d_ff=3072, num_layers=12, num_heads=12, decoder_start_token_id=0)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids, targets = torch.randint(5, 30000, (2, STEP_ROWS, STEP_TOKENS))

    def step(loss: Loss) -> None:
        logits = model(input_ids=ids, decoder_input_ids=targets, use_cache=False).logits
        loss(logits.flatten(0, 1), targets.flatten()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    names = ("cross entropy", "DeCE")
    return in_turns({name: lambda name=name: step(LOSSES[name]) for name in names}, repeats)  # type: ignore[misc]


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
    """The most memory that this process has had, in megabytes (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))) / 1024


def page(rows: int, repeats: int, step_repeats: int, threads: int) -> list[str]:
    seconds = of_losses(rows, repeats)
    memory = {name: peak(name, rows, threads) for name in LOSSES}
    plain = "cross entropy"
    lines = [
        "",
        f"## {threads} thread{'s' if threads > 1 else ''}",
        "",
        "| loss | processor seconds | × cross entropy | extra memory, MB | × cross entropy |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {name} | {seconds[name]:.3f} | {seconds[name] / seconds[plain]:.2f} | {memory[name]:.0f} | "
            f"{memory[name] / memory[plain]:.2f} |"
            for name in LOSSES
        ),
    ]
    if step_repeats:
        steps = of_steps(step_repeats)
        lines += [
            "",
            f"A training step of CodeT5-base ({STEP_ROWS} rows of {STEP_TOKENS} input and output tokens each): "
            f"{steps[plain]:.2f} processor seconds with cross entropy, {steps['DeCE']:.2f} with DeCE, "
            f"{steps['DeCE'] / steps[plain]:.3f} times as much (median of {step_repeats}).",
        ]
    return lines


@click.command()
@click.option("--threads", "counts", type=int, multiple=True, default=(1, 2), show_default=True)
@click.option("--rows", default=12 * 256, show_default=True, help="Tokens.")
@click.option("--repeats", default=7, show_default=True)
@click.option("--step-repeats", default=5, show_default=True, help="Of a whole model's step; 0 leaves it out.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the page here.")
def main(counts: tuple[int, ...], rows: int, repeats: int, step_repeats: int, out: Path | None) -> None:
    lines = [
        "# Time and memory of the loss DeCE",
        "",
        f"Written by `python benchmarks/losses.py`. Forward and backward on {rows} tokens, {CLASSES} classes, float32; "
        f"median of {repeats} repeats, all losses in turns; PyTorch {torch.__version__}.",
    ]
    for threads in counts:
        torch.set_num_threads(threads)
        lines += page(rows, repeats, step_repeats, threads)
    text = "\n".join([*lines, ""])
    print(text)
    if out is not None:
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
