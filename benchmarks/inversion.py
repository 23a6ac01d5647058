"""One step of EliBadCode's search, its candidates scored in four ways: python benchmarks/inversion.py --help

*naive*: each candidate on each sample by itself, padded to the victim's full length, as Algorithm 1 reads. *fair*: each
candidate by itself, its samples in one batch of their own lengths. *stream*: all pairs in one stream of batches, which
is what the search does. *raced*: the stream, with only the best eighth going past the first samples (setting `race`).
All four score the same candidates; factors are of seconds, against both references.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from codebackdoor import files
from codebackdoor.config.eliminations import EliBadCode
from codebackdoor.defenses.elimination.elibadcode.inversion import (
    Rendered,
    contexts,
    first_trigger,
    losses,
    raced,
    rendered,
)
from codebackdoor.defenses.elimination.elibadcode.position import Prompt
from codebackdoor.defenses.elimination.elibadcode.scan import draw
from codebackdoor.defenses.elimination.elibadcode.vocabulary import build
from codebackdoor.types import DefenderView
from codebackdoor.victims.victim import Victim, load_victim

TRAINED = "runs/local/models/defects/codebert/codepoisoner_func-0.05/seed1/none/cross_entropy/none"


@torch.inference_mode()
def naive(victim: Victim, prompts: Sequence[Prompt], triggers: Sequence[Rendered], label: int) -> Tensor:
    found = []
    for trigger in triggers:
        total = 0.0
        for prompt in prompts:
            ids = prompt.fill(*trigger)
            padding = victim.max_length - len(ids)
            row = torch.tensor([ids + [victim.pad_id] * padding], device=victim.device)
            mask = torch.tensor([[1] * len(ids) + [0] * padding], device=victim.device)
            logits = victim.model(input_ids=row, attention_mask=mask).logits
            total += torch.nn.functional.cross_entropy(logits, torch.tensor([label], device=victim.device)).item()
        found.append(total / len(prompts))
    return torch.tensor(found)


def fair(victim: Victim, prompts: Sequence[Prompt], triggers: Sequence[Rendered], label: int) -> Tensor:
    return torch.cat([losses(victim, prompts, [trigger], label) for trigger in triggers])


def timed(run: Callable[[], Tensor], repeats: int) -> tuple[float, Tensor]:
    """Seconds of the fastest of some runs, and what it returned."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        found = run()
        times.append(time.perf_counter() - start)
    return min(times), found


@click.command(help=__doc__)
@click.option("--victim", "folder", type=click.Path(path_type=Path), default=TRAINED, show_default=True)
@click.option(
    "--clean", type=click.Path(path_type=Path), default="runs/local/data/defects/clean.jsonl", show_default=True
)
@click.option("--candidates", default=64, show_default=True)
@click.option("--samples", default=30, show_default=True)
@click.option("--race", default=5, show_default=True, help="Samples of the first round.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(folder: Path, clean: Path, candidates: int, samples: int, race: int, repeats: int, threads: int) -> None:
    torch.set_num_threads(threads)
    victim = load_victim(folder)
    rows = tuple(files.read_examples(clean))
    view = DefenderView("defect_detection", rows[0].language, victim.text_form, rows, {}, victim=victim)
    settings = EliBadCode(method="elibadcode", position="function_name", samples=samples)
    prompts = draw(view, settings, range(2), seed=1)[1].prompts["function_name"]
    vocabulary = build(victim.tokenizer, settings.vocabulary, view.language, contexts(prompts))
    generator = np.random.default_rng(1)
    triggers = [
        rendered(vocabulary, first_trigger(vocabulary, settings.length, contexts(prompts), generator))
        for _ in range(candidates)
    ]
    ways: dict[str, Callable[[], Tensor]] = {
        "naive": lambda: naive(victim, prompts, triggers, 0),
        "fair": lambda: fair(victim, prompts, triggers, 0),
        "stream": lambda: losses(victim, prompts, triggers, 0),
        "raced": lambda: raced(victim, prompts, triggers, 0, race),
    }
    found = {name: timed(run, repeats) for name, run in ways.items()}
    best = int(found["naive"][1].argmin())
    print(f"{candidates} candidates on {len(prompts)} samples, {victim.device}, {threads} thread(s)")
    print(f"{'':8} {'seconds':>8} {'x naive':>8} {'x fair':>8} {'largest difference':>19}  same best")
    for name, (seconds, scores) in found.items():
        known = scores.isfinite()
        apart = (scores - found["naive"][1])[known].abs().max().item()
        print(
            f"{name:8} {seconds:8.3f} {found['naive'][0] / seconds:8.1f} {found['fair'][0] / seconds:8.1f} "
            f"{apart:19.1e}  {'yes' if int(scores.argmin()) == best else 'no'}"
        )


if __name__ == "__main__":
    main()
