"""EliBadCode's trigger inversion against a plain one: python benchmarks/inversion.py --help

All walk from the same seeds on the same victim, as Algorithm 1 is printed: no race, no early stop, every step taken.

\b
reference  written from Algorithm 1: a one-hot over the whole vocabulary, its gradient restricted to the trigger's
           pieces afterwards, one candidate a forward pass, every sample padded to the victim's maximum, the forward
           pass of transformers
bucketed   the same, its samples in batches of their own lengths as the package makes them
package    the package's search, which reads no candidate further once it cannot have the lowest loss
forward    no search: the forward passes alone that score all of its candidates on all samples, in batches, by
           transformers and by the package's own shorter way

Factors are of wall-clock seconds, or with --clock cpu of processor time: on a machine that others use, with one thread,
that is the better number. Where a step of the package takes another trigger than the reference, the table says
which step, and by how much the two differ in the reference's loss. A second table has the switches that change the
walk: early stopping (`patience`) and a race of the candidates (`race`); --switches prints that one alone.

With --real-size the victim is of CodeBERT's size, with random weights: speed does not care, triggers mean nothing.
Where torch sees a GPU all ways run on it.
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
    Indices,
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
#: Sub-tokens of a function in Devign, cut at the papers' 400: between these, evenly (mean 312).
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

    def batches(self, trigger: Indices) -> list[tuple[list[int], Tensor, Tensor]]:
        """Samples, ids and mask of each batch."""
        rows = [carrier.fill(*rendered(self.vocabulary, trigger))[0] for carrier in self.carriers]
        pad_id, device = self.victim.pad_id, self.victim.device
        if not self.whole:
            groups = bucketed([len(row) for row in rows], TOKENS[device.type])
            return [(own, *pad([rows[index] for index in own], pad_id, device)) for own in groups]
        ids, mask = pad([*rows, [0] * self.victim.max_length], pad_id, device)
        return [(list(range(len(rows))), ids[:-1], mask[:-1])]

    def loss(self, trigger: Indices) -> float:
        total = 0.0
        with torch.inference_mode():
            for own, ids, mask in self.batches(trigger):
                logits = self.victim.model(input_ids=ids, attention_mask=mask).logits
                targets = torch.full((len(own),), self.label, device=logits.device)
                total += cross_entropy(logits, targets, reduction="sum").item()
        return total / len(self.carriers)

    def gradient(self, trigger: Indices) -> Tensor:
        """By the one-hot rows of the whole vocabulary, then of the trigger's pieces alone: [n, V]."""
        table: Tensor = self.victim.model.get_input_embeddings().weight
        # after a space and elsewhere: the first piece differs
        hot = [
            one_hot(torch.tensor(ids, device=table.device), len(table)).float().requires_grad_()
            for ids in rendered(self.vocabulary, trigger)
        ]
        read = [rows @ table for rows in hot]
        for own, ids, mask in self.batches(trigger):
            embedded = self.victim.model.get_input_embeddings()(ids).detach()
            for row, index in enumerate(own):
                for column, slot, spaced in self.carriers[index].slots(0, len(trigger)):
                    embedded[row, column] = read[0 if spaced else 1][slot]
            logits = self.victim.model(inputs_embeds=embedded, attention_mask=mask).logits
            targets = torch.full((len(own),), self.label, device=logits.device)
            loss = cross_entropy(logits, targets, reduction="sum") / len(self.carriers)
            loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        after_space, plain = ((torch.zeros_like(rows) if rows.grad is None else rows.grad).cpu() for rows in hot)
        found = (after_space + plain)[:, torch.from_numpy(self.vocabulary.plain)]
        found[0] = plain[0, torch.from_numpy(self.vocabulary.plain)]
        found[0] += after_space[0, torch.from_numpy(self.vocabulary.spaced)]
        return found


@dataclass
class Walk:
    """The trigger before each step and after the last, its loss, and every candidate's loss of each step."""

    triggers: list[Indices] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    scored: list[dict[Indices, float]] = field(default_factory=list)


def reference(plain: Plain, settings: EliBadCodeSettings, generator: np.random.Generator) -> Walk:
    """Algorithm 1, TRIGGERINVERSION; candidates are drawn as the package draws them, else no sequence is the same."""
    vocabulary, where = plain.vocabulary, contexts(plain.carriers)
    trigger = first_trigger(vocabulary, settings.length, where, generator)
    visited, walk = {trigger}, Walk([trigger], [plain.loss(trigger)])
    for _ in range(settings.iterations):
        options = substitutes(plain.gradient(trigger), vocabulary, settings.top_k)
        drawn, _ = neighbors(trigger, options, vocabulary, where, visited, settings.candidates, generator)
        visited.update(drawn)
        losses = {candidate: plain.loss(candidate) for candidate in drawn}
        trigger = min(losses, key=lambda candidate: losses[candidate])
        walk.triggers.append(trigger)
        walk.losses.append(losses[trigger])
        walk.scored.append(losses)
    return walk


class Recorded(SearchProgress):
    """Writes nothing; knows where the search stood after every step."""

    def __init__(self) -> None:
        super().__init__(None, "")
        self.states: list[State] = []

    def due(self) -> bool:
        return True

    def keep(self, _title: str, state: State) -> None:
        self.states.append(state)


@dataclass(frozen=True)
class Setting:
    """What every way of searching gets."""

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

    def candidates(self) -> tuple[list[Indices], list[list[Indices]]]:
        """The package's triggers after each step, and what each step scored."""
        kept = Recorded()
        self.package(kept)
        states = kept.states[:-1]
        seen: set[Indices] = set()
        steps = []
        for state in states:
            now = {candidate.trigger for candidate in state["visited"]}
            steps.append(sorted(now - seen))
            seen = now
        return [state["current"].trigger for state in states], steps

    def forward(self, steps: Sequence[Sequence[Indices]], own: bool) -> float:
        """Seconds of the forward passes alone that score these candidates."""
        seconds = 0.0
        for step in steps:
            rows = [carrier.fill(*rendered(self.vocabulary, one))[0] for carrier in self.carriers for one in step]
            batches = bucketed([len(row) for row in rows], TOKENS[self.victim.device.type])
            padded = [
                pad([rows[index] for index in batch], self.victim.pad_id, self.victim.device) for batch in batches
            ]
            start = CLOCK.now()
            with torch.inference_mode():
                for ids, mask in padded:
                    if own:
                        logits(self.victim, variant_vectors(self.victim, ids, mask))
                    else:
                        self.victim.model(input_ids=ids, attention_mask=mask)
            seconds += CLOCK.now() - start
        return seconds


@dataclass
class Clock:
    """Time of the wall, or of the processor, which others on the machine disturb less; a GPU's work is waited for."""

    clock: Callable[[], float] = time.perf_counter

    def now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return self.clock()

    def fastest(self, run: Callable[[], T], repeats: int) -> tuple[float, T]:
        """Seconds of the fastest of some runs, and what it returned."""
        times = []
        for _ in range(repeats):
            start = self.now()
            found = run()
            times.append(self.now() - start)
        return min(times), found


CLOCK = Clock()


def apart(walk: Walk, triggers: Sequence[Indices]) -> dict[str, object]:
    """Where another search first takes another trigger, and by how much its loss by the reference is higher (nats)."""
    for step, (own, other) in enumerate(zip(walk.triggers[1:], triggers, strict=True)):
        if own != other:
            scored = walk.scored[step]
            gap = scored[other] - scored[own] if other in scored else None
            return {"same_steps": step, "steps": len(triggers), "loss_gap": gap}
    return {"same_steps": len(triggers), "steps": len(triggers), "loss_gap": 0.0}


def real_size(rows: Sequence[Example], seed: int) -> tuple[Victim, list[Example]]:
    """A victim of CodeBERT's size with random weights, and samples of its papers' length, joined from shorter ones."""
    from transformers.models.roberta.configuration_roberta import RobertaConfig
    from transformers.models.roberta.modeling_roberta import RobertaForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, num_labels=2)
        model = RobertaForSequenceClassification(config).eval()
    tokenizer = load_tokenizer(Path("basemodels/encoder"))
    tokenizer.model_max_length = DEVIGN[1]
    victim = Victim(model.to(devices.device()), tokenizer, "classification", "lexed", DEVIGN[1], DEVIGN[1])
    drawn = np.random.default_rng(seed)
    lengths = [len(encoded.ids) for encoded in victim.encode([row.code for row in rows])]
    joined = []
    ends: dict[int | None, tuple[list[str], int, int]] = {}
    for row, length in zip(rows, lengths, strict=True):
        codes, total, wanted = ends.pop(row.label, ([], 0, int(drawn.integers(*DEVIGN))))
        codes, total = [*codes, row.code], total + length
        if total >= wanted:
            # what is over the wanted length goes with the last function's end; the maximum cuts the rest
            joined.append(replace(row, code=" ".join(codes)[: int(len(" ".join(codes)) * wanted / total)]))
        else:
            ends[row.label] = (codes, total, wanted)
    return victim, joined


def measured(setting: Setting, repeats: int) -> dict[str, Any]:
    """Seconds of every way, and how the walks differ."""
    triggers, steps = setting.candidates()
    reference_seconds, walk = CLOCK.fastest(
        lambda: reference(setting.plain(True), setting.settings, setting.generator()), 1
    )
    bucketed_seconds, other = CLOCK.fastest(
        lambda: reference(setting.plain(False), setting.settings, setting.generator()), 1
    )
    seconds = {
        "reference": reference_seconds,
        "bucketed": bucketed_seconds,
        "package": CLOCK.fastest(setting.package, repeats)[0],
        "forward, transformers": min(setting.forward(steps, own=False) for _ in range(repeats)),
        "forward, package": min(setting.forward(steps, own=True) for _ in range(repeats)),
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
            "bucketed": apart(walk, other.triggers[1:]),
        },
    }


def switched(setting: Setting, race: int, patience: int, repeats: int) -> list[dict[str, Any]]:
    """The package's search with what saves steps and samples."""
    found = []
    for switches in ({}, {"patience": patience}, {"race": race}, {"race": race, "patience": patience}):
        seconds, inversion = CLOCK.fastest(lambda own=switches: setting.package(**own), repeats)  # type: ignore[misc]
        text = setting.vocabulary.text(inversion.trigger)
        steps = len(inversion.history) - 1
        found.append({**switches, "seconds": seconds, "steps": steps, "loss": inversion.loss, "trigger": text})
    return found


def shown(found: Mapping[str, Any]) -> None:
    """Print the tables that were measured."""
    if "seconds" in found:
        shown_seconds(found)
    if not found["switches"]:
        return
    print(f"\n{'patience':>8} {'race':>5} {'seconds':>8} {'steps':>6} {'loss':>8}  trigger")
    for row in found["switches"]:
        patience, race = (row.get(name, "-") for name in ("patience", "race"))
        print(f"{patience:>8} {race:>5} {row['seconds']:8.2f} {row['steps']:6} {row['loss']:8.4f}  {row['trigger']}")


def shown_seconds(found: Mapping[str, Any]) -> None:
    reference_seconds = found["seconds"]["reference"]
    print(f"{'':20} {'seconds':>8} {'reference/this':>14}")
    for name, seconds in found["seconds"].items():
        print(f"{name:20} {seconds:8.2f} {reference_seconds / seconds:14.1f}")
    for name, factor in found["factors"].items():
        print(f"{name}: {factor:.2f}")
    for name, own in found["sequence"].items():
        more = "" if own["loss_gap"] == 0 else f"; then another whose loss is {own['loss_gap']} higher"
        print(f"triggers of {name}: {own['same_steps']} of {own['steps']} steps as the reference's{more}")


@click.command(help=__doc__)
@click.option("--victim", "folder", type=click.Path(path_type=Path), default=TRAINED, show_default=True)
@click.option("--clean", type=click.Path(path_type=Path), default=CLEAN, show_default=True, help="Clean samples.")
@click.option("--real-size", "real", is_flag=True, help="A victim of CodeBERT's size, with random weights.")
@click.option("--label", default=0, show_default=True, help="Target label that is inverted.")
@click.option("--iterations", default=60, show_default=True)
@click.option("--candidates", default=64, show_default=True)
@click.option("--samples", default=20, show_default=True, help="Clean samples of each label.")
@click.option("--sample-tokens", type=int, default=40, show_default=True, help="Longest sample; 0: any.")
@click.option("--race", default=5, show_default=True, help="Samples of the first round, second table.")
@click.option("--patience", default=10, show_default=True, help="Steps without gain, second table.")
@click.option("--repeats", default=3, show_default=True, help="The fastest counts; the references run once.")
@click.option("--threads", default=2, show_default=True)
@click.option("--switches", "only", is_flag=True, help="The second table alone.")
@click.option("--tf32", is_flag=True, help="Matrix products of a GPU in TF32, which the package does not use.")
@click.option("--seed", default=1, show_default=True)
@click.option("--clock", type=click.Choice(["wall", "cpu"]), default="wall", show_default=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="JSON of all that is printed.")
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
    drawn = draw(view, settings, labels, seed)
    carriers = carriers_of_other_labels(drawn, PLACE, label)
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
    # of random weights every trigger is as good as another
    switches = [] if real else switched(setting, race, patience, repeats)
    found = {**facts, **({} if only else measured(setting, repeats)), "switches": switches}
    shown(found)
    if out:
        files.write_json(out, found)


if __name__ == "__main__":
    main()
