"""EliBadCode's trigger inversion against a plain implementation: python benchmarks/inversion.py --help

All searches start from the same seeds on the same victim and follow Algorithm 1 as printed: no race, no early stopping,
all steps.

\b
reference  written from Algorithm 1: a one-hot over the whole vocabulary, its gradient restricted to the trigger's
           pieces afterwards, one candidate per forward pass, every sample padded to the victim's maximum length, the
           forward pass of transformers
bucketed   the same with batches of samples of similar length, as the package makes them
package    the package's search, which stops scoring a candidate once it cannot have the lowest loss
forward    no search: only the forward passes that score all of its candidates on all samples, in batches, by
           transformers and by the package's faster implementation

Factors are of wall-clock seconds or, with --clock cpu, of processor time, which is more reliable with one thread on a
machine with other load. If a step of the package chooses a different trigger than the reference, the output says which
step, and by how much the two differ in the reference's loss. A second table shows the switches that change the search:
early stopping (`patience`) and a race of the candidates (`race`); --switches prints only that table.

With --real-size, the victim has CodeBERT's size and random weights: speeds are realistic, triggers are meaningless.
If torch sees a GPU, everything runs on it.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from codebackdoor import files
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.inversion.candidates import (
    VocabularyIndices,
    contexts,
    first_trigger,
    neighbors,
    substitutes,
)
from codebackdoor.defenses.elimination.inversion.carriers import Carrier
from codebackdoor.defenses.elimination.inversion.classifier import ClassifierObjective
from codebackdoor.defenses.elimination.inversion.loss import CrossEntropyLoss
from codebackdoor.defenses.elimination.inversion.resume import SearchProgress, State
from codebackdoor.defenses.elimination.inversion.samples import carriers_of_other_labels, draw
from codebackdoor.defenses.elimination.inversion.search import search
from codebackdoor.defenses.elimination.inversion.vocabulary import TriggerVocabulary, build, rendered
from codebackdoor.defenses.views import DefenderView
from codebackdoor.seeding import numpy_generator
from codebackdoor.types import Example
from codebackdoor.victims import devices
from codebackdoor.victims.batching import bucketed, pad
from codebackdoor.victims.forward import logits, variant_vectors
from codebackdoor.victims.inference import TOKENS
from codebackdoor.victims.tokenizer_loading import load_tokenizer
from codebackdoor.victims.victim import Victim, load_victim

TRAINED = "runs/local/models/defects/codebert/codepoisoner_func-0.05/seed1/none/cross_entropy/none"
CLEAN = "runs/local/data/defects/clean.jsonl"
PLACE: Literal["function_name"] = "function_name"
#: Range of sub-tokens of a function, drawn uniformly (mean 312); like Devign's functions, cut at the papers' 400.
DEVIGN = (224, 400)
T = TypeVar("T")


@dataclass(frozen=True)
class Plain:
    """The reference: transformers' own forward passes over all samples, one trigger at a time."""

    victim: Victim
    carriers: Sequence[Carrier]
    vocabulary: TriggerVocabulary
    label: int
    #: Whether every sample is padded to the victim's maximum, in one batch.
    whole: bool

    def batches(self, trigger: VocabularyIndices) -> list[tuple[list[int], Tensor, Tensor]]:
        """Samples, ids and mask of each batch."""
        rows = [carrier.fill(*rendered(self.vocabulary, trigger))[0] for carrier in self.carriers]
        pad_id, device = self.victim.pad_id, self.victim.device
        if not self.whole:
            groups = bucketed([len(row) for row in rows], TOKENS[device.type])
            return [(group, *pad([rows[index] for index in group], pad_id, device)) for group in groups]
        ids, mask = pad([*rows, [0] * self.victim.max_length], pad_id, device)
        return [(list(range(len(rows))), ids[:-1], mask[:-1])]

    def loss(self, trigger: VocabularyIndices) -> float:
        total = 0.0
        with torch.inference_mode():
            for group, ids, mask in self.batches(trigger):
                logits = self.victim.model(input_ids=ids, attention_mask=mask).logits
                targets = torch.full((len(group),), self.label, device=logits.device)
                total += cross_entropy(logits, targets, reduction="sum").item()
        return total / len(self.carriers)

    def gradient(self, trigger: VocabularyIndices) -> Tensor:
        """Gradient [n, V] by one-hot rows of the whole vocabulary, then restricted to the trigger's pieces."""
        table: Tensor = self.victim.model.get_input_embeddings().weight
        # after a space and elsewhere, since the first piece differs
        hot = [
            one_hot(torch.tensor(ids, device=table.device), len(table)).float().requires_grad_()
            for ids in rendered(self.vocabulary, trigger)
        ]
        embeddings = [rows @ table for rows in hot]
        for group, ids, mask in self.batches(trigger):
            embedded = self.victim.model.get_input_embeddings()(ids).detach()
            for row, index in enumerate(group):
                for column, slot, spaced in self.carriers[index].slots(0, len(trigger)):
                    embedded[row, column] = embeddings[0 if spaced else 1][slot]
            logits = self.victim.model(inputs_embeds=embedded, attention_mask=mask).logits
            targets = torch.full((len(group),), self.label, device=logits.device)
            loss = cross_entropy(logits, targets, reduction="sum") / len(self.carriers)
            loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        after_space, plain = ((torch.zeros_like(rows) if rows.grad is None else rows.grad).cpu() for rows in hot)
        gradient = (after_space + plain)[:, torch.from_numpy(self.vocabulary.plain)]
        gradient[0] = plain[0, torch.from_numpy(self.vocabulary.plain)]
        gradient[0] += after_space[0, torch.from_numpy(self.vocabulary.spaced)]
        return gradient


@dataclass
class Walk:
    """The triggers before each step and after the last, their losses, and the candidates' losses of each step."""

    triggers: list[VocabularyIndices] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    scored: list[dict[VocabularyIndices, float]] = field(default_factory=list)


def reference(plain: Plain, settings: EliBadCodeSettings, generator: np.random.Generator) -> Walk:
    """Algorithm 1, TRIGGERINVERSION; candidates are drawn as in the package, or no sequence would be the same."""
    vocabulary, where = plain.vocabulary, contexts(plain.carriers)
    trigger = first_trigger(vocabulary, settings.length, where, generator)
    visited, walk = {trigger}, Walk([trigger], [plain.loss(trigger)])
    for _ in range(settings.iterations):
        options = substitutes(plain.gradient(trigger), vocabulary, settings.top_k)
        candidates, _ = neighbors(trigger, options, vocabulary, where, visited, settings.candidates, generator)
        visited.update(candidates)
        losses = {candidate: plain.loss(candidate) for candidate in candidates}
        trigger = min(losses, key=lambda candidate: losses[candidate])
        walk.triggers.append(trigger)
        walk.losses.append(losses[trigger])
        walk.scored.append(losses)
    return walk


class Recorded(SearchProgress):
    """Records the state of the search after every step instead of writing it."""

    def __init__(self) -> None:
        super().__init__(None, "")
        self.states: list[State] = []

    def due(self) -> bool:
        return True

    def keep(self, _title: str, state: State) -> None:
        self.states.append(state)


@dataclass(frozen=True)
class Setting:
    """The inputs that all searches share."""

    victim: Victim
    carriers: Sequence[Carrier]
    vocabulary: TriggerVocabulary
    label: int
    settings: EliBadCodeSettings
    seed: int

    def generator(self) -> np.random.Generator:
        return numpy_generator(self.seed, "benchmark", "search")

    def plain(self, whole: bool) -> Plain:
        return Plain(self.victim, self.carriers, self.vocabulary, self.label, whole)

    def package(self, progress: SearchProgress | None = None, **switches: object) -> Any:
        settings = self.settings.model_copy(update=switches)
        loss = CrossEntropyLoss(self.label)
        objective = ClassifierObjective(self.victim, self.carriers, self.vocabulary, loss, settings)
        return search(objective, self.generator(), "", progress)

    def candidates(self) -> tuple[list[VocabularyIndices], list[list[VocabularyIndices]]]:
        """The package's triggers after each step, and the candidates that each step scored."""
        progress = Recorded()
        self.package(progress)
        states = progress.states[:-1]
        before: set[VocabularyIndices] = set()
        steps = []
        for state in states:
            visited = {candidate.trigger for candidate in state["visited"]}
            steps.append(sorted(visited - before))
            before = visited
        return [state["current"].trigger for state in states], steps

    def forward(self, steps: Sequence[Sequence[VocabularyIndices]], by_package: bool) -> float:
        """Seconds of only the forward passes that score these candidates, by the package or by transformers."""
        seconds = 0.0
        for step in steps:
            rows = [
                carrier.fill(*rendered(self.vocabulary, trigger))[0] for carrier in self.carriers for trigger in step
            ]
            batches = bucketed([len(row) for row in rows], TOKENS[self.victim.device.type])
            padded = [
                pad([rows[index] for index in batch], self.victim.pad_id, self.victim.device) for batch in batches
            ]
            start = CLOCK.now()
            with torch.inference_mode():
                for ids, mask in padded:
                    if by_package:
                        logits(self.victim, variant_vectors(self.victim, ids, mask))
                    else:
                        self.victim.model(input_ids=ids, attention_mask=mask)
            seconds += CLOCK.now() - start
        return seconds


@dataclass
class Clock:
    """Wall-clock time, or processor time, which other load disturbs less; waits for a GPU's work."""

    clock: Callable[[], float] = time.perf_counter

    def now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return self.clock()

    def fastest(self, run: Callable[[], T], repeats: int) -> tuple[float, T]:
        """Seconds of the fastest of ``repeats`` runs, and the result of the last one."""
        times = []
        for _ in range(repeats):
            start = self.now()
            result = run()
            times.append(self.now() - start)
        return min(times), result


CLOCK = Clock()


def apart(walk: Walk, triggers: Sequence[VocabularyIndices]) -> dict[str, object]:
    """The first step at which a search deviates from the reference, and by how much its loss is then higher (nats)."""
    for step, (expected, actual) in enumerate(zip(walk.triggers[1:], triggers, strict=True)):
        if expected != actual:
            scored = walk.scored[step]
            gap = scored[actual] - scored[expected] if actual in scored else None
            return {"same_steps": step, "steps": len(triggers), "loss_gap": gap}
    return {"same_steps": len(triggers), "steps": len(triggers), "loss_gap": 0.0}


def real_size(rows: Sequence[Example], seed: int) -> tuple[Victim, list[Example]]:
    """A victim of CodeBERT's size with random weights, and samples of Devign's length, joined from shorter ones."""
    from transformers.models.roberta.configuration_roberta import RobertaConfig
    from transformers.models.roberta.modeling_roberta import RobertaForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, num_labels=2)
        model = RobertaForSequenceClassification(config).eval()
    tokenizer = load_tokenizer(Path("basemodels/encoder"))
    tokenizer.model_max_length = DEVIGN[1]
    victim = Victim(model.to(devices.device()), tokenizer, "classification", "lexed", DEVIGN[1], DEVIGN[1])
    generator = np.random.default_rng(seed)
    lengths = [len(encoded.ids) for encoded in victim.encode([row.code for row in rows])]
    joined = []
    ends: dict[int | None, tuple[list[str], int, int]] = {}
    for row, length in zip(rows, lengths, strict=True):
        codes, total, target = ends.pop(row.label, ([], 0, int(generator.integers(*DEVIGN))))
        codes, total = [*codes, row.code], total + length
        if total >= target:
            # cut the last function to about the target length; the maximum length cuts the rest
            joined.append(replace(row, code=" ".join(codes)[: int(len(" ".join(codes)) * target / total)]))
        else:
            ends[row.label] = (codes, total, target)
    return victim, joined


def measured(setting: Setting, repeats: int) -> dict[str, Any]:
    """Seconds of every implementation, and how their searches differ."""
    triggers, steps = setting.candidates()
    reference_seconds, walk = CLOCK.fastest(
        lambda: reference(setting.plain(True), setting.settings, setting.generator()), 1
    )
    bucketed_seconds, bucketed_walk = CLOCK.fastest(
        lambda: reference(setting.plain(False), setting.settings, setting.generator()), 1
    )
    seconds = {
        "reference": reference_seconds,
        "bucketed": bucketed_seconds,
        "package": CLOCK.fastest(setting.package, repeats)[0],
        "forward, transformers": min(setting.forward(steps, by_package=False) for _ in range(repeats)),
        "forward, package": min(setting.forward(steps, by_package=True) for _ in range(repeats)),
    }
    return {
        "seconds": seconds,
        "factors": {
            "reference / package": seconds["reference"] / seconds["package"],
            "bucketed / package": seconds["bucketed"] / seconds["package"],
            "forward, transformers / package": seconds["forward, transformers"] / seconds["package"],
            "forward, package / package": seconds["forward, package"] / seconds["package"],
        },
        "sequence": {
            "package": apart(walk, triggers),
            "bucketed": apart(walk, bucketed_walk.triggers[1:]),
        },
    }


def switched(setting: Setting, race: int, patience: int, repeats: int) -> list[dict[str, Any]]:
    """The package's search with the switches that save steps and samples."""
    rows = []
    for switches in ({}, {"patience": patience}, {"race": race}, {"race": race, "patience": patience}):
        seconds, inversion = CLOCK.fastest(lambda chosen=switches: setting.package(**chosen), repeats)  # type: ignore[misc]
        text = setting.vocabulary.text(inversion.trigger)
        steps = len(inversion.history) - 1
        rows.append({**switches, "seconds": seconds, "steps": steps, "loss": inversion.loss, "trigger": text})
    return rows


def print_tables(results: Mapping[str, Any]) -> None:
    """Print the tables that were measured."""
    if "seconds" in results:
        print_seconds(results)
    if not results["switches"]:
        return
    print(f"\n{'patience':>8} {'race':>5} {'seconds':>8} {'steps':>6} {'loss':>8}  trigger")
    for row in results["switches"]:
        patience, race = (row.get(name, "-") for name in ("patience", "race"))
        print(f"{patience:>8} {race:>5} {row['seconds']:8.2f} {row['steps']:6} {row['loss']:8.4f}  {row['trigger']}")


def print_seconds(results: Mapping[str, Any]) -> None:
    reference_seconds = results["seconds"]["reference"]
    print(f"{'':20} {'seconds':>8} {'reference/this':>14}")
    for name, seconds in results["seconds"].items():
        print(f"{name:20} {seconds:8.2f} {reference_seconds / seconds:14.1f}")
    for name, factor in results["factors"].items():
        print(f"{name}: {factor:.2f}")
    for name, sequence in results["sequence"].items():
        same, steps, gap = sequence["same_steps"], sequence["steps"], sequence["loss_gap"]
        deviation = "" if gap == 0 else f"; then another whose loss is {gap} higher"
        print(f"triggers of {name}: {same} of {steps} steps as the reference's{deviation}")


@click.command(help=__doc__)
@click.option("--victim", "folder", type=click.Path(path_type=Path), default=TRAINED, show_default=True)
@click.option("--clean", type=click.Path(path_type=Path), default=CLEAN, show_default=True, help="Clean samples.")
@click.option("--real-size", "real", is_flag=True, help="A victim of CodeBERT's size, with random weights.")
@click.option("--label", default=0, show_default=True, help="Target label to invert.")
@click.option("--iterations", default=60, show_default=True)
@click.option("--candidates", default=64, show_default=True)
@click.option("--samples", default=20, show_default=True, help="Clean samples of each label.")
@click.option(
    "--sample-tokens", type=int, default=40, show_default=True, help="Maximum length of samples, in sub-tokens; 0: any."
)
@click.option("--race", default=5, show_default=True, help="Second table: samples of the first round.")
@click.option(
    "--patience", default=10, show_default=True, help="Second table: steps without improvement before stopping."
)
@click.option(
    "--repeats",
    default=3,
    show_default=True,
    help="Number of runs, of which the fastest counts; the references run once.",
)
@click.option("--threads", default=2, show_default=True)
@click.option("--switches", "only", is_flag=True, help="Print only the second table.")
@click.option("--tf32", is_flag=True, help="Use TF32 for a GPU's matrix products; the package does not.")
@click.option("--seed", default=1, show_default=True)
@click.option("--clock", type=click.Choice(["wall", "cpu"]), default="wall", show_default=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="JSON file with all results.")
def main(
    folder: Path,
    clean: Path,
    real: bool,
    label: int,
    iterations: int,
    candidates: int,
    samples: int,
    sample_tokens: int,
    race: int,
    patience: int,
    repeats: int,
    threads: int,
    only: bool,
    tf32: bool,
    seed: int,
    clock: str,
    out: Path | None,
) -> None:
    CLOCK.clock = time.process_time if clock == "cpu" else time.perf_counter
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    rows = files.read_examples(clean)
    victim, rows = real_size(rows, seed) if real else (load_victim(folder), rows)
    view = DefenderView("defect_detection", rows[0].language, victim.text_form, tuple(rows), {}, victim=victim)
    settings = EliBadCodeSettings(
        method="elibadcode",
        position=PLACE,
        samples=samples,
        sample_tokens=sample_tokens or None,
        iterations=iterations,
        candidates=candidates,
        keep_current=False,
    )
    labels = range(victim.model.config.num_labels)
    sample = draw(view, settings, labels, seed)
    carriers = carriers_of_other_labels(sample, PLACE, label)
    vocabulary = build(victim.tokenizer, settings.vocabulary, view.language, contexts(carriers))
    setting = Setting(victim, carriers, vocabulary, label, settings, seed)
    start = first_trigger(vocabulary, settings.length, contexts(carriers), setting.generator())
    lengths = [len(carrier.fill(*rendered(vocabulary, start))[0]) for carrier in carriers]
    facts = {
        "victim": "CodeBERT's size, random" if real else str(folder),
        "samples": len(carriers),
        "mean_tokens": round(float(np.mean(lengths)), 1),
        "max_length": victim.max_length,
        "candidates": candidates,
        "iterations": iterations,
        "threads": threads,
        "clock": clock,
        "seed": seed,
        "device": torch.cuda.get_device_name() if victim.device.type == "cuda" else str(victim.device),
        "tf32": tf32,
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    print(", ".join(f"{name}: {value}" for name, value in facts.items()))
    # with random weights, all triggers are equally good
    switches = [] if real else switched(setting, race, patience, repeats)
    results = {**facts, **({} if only else measured(setting, repeats)), "switches": switches}
    print_tables(results)
    if out:
        files.write_json(out, results)


if __name__ == "__main__":
    main()
