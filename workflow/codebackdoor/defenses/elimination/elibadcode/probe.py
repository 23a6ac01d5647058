"""What a trigger and a perturbation do at each identifier of a sample (EliBadCode, section 4.3 and Figure 3).

A measurement, not a defense: it knows the attack's trigger. For each sample, a perturbation is searched at the first
identifier, as the inversion searches a trigger on many samples. Then the trigger and the perturbation each replace
every identifier in turn. The search may use no piece of the attack's trigger, which it might otherwise find again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from codebackdoor import files, syntax
from codebackdoor.config.datasets import AnyDataset
from codebackdoor.config.scenario import POSITIONS
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.inversion.candidates import contexts
from codebackdoor.defenses.elimination.inversion.carriers import Carrier, cut
from codebackdoor.defenses.elimination.inversion.classifier import ClassifierObjective
from codebackdoor.defenses.elimination.inversion.loss import LABEL_LOSSES
from codebackdoor.defenses.elimination.inversion.position import sensitivities
from codebackdoor.defenses.elimination.inversion.search import search
from codebackdoor.defenses.elimination.inversion.spans import TriggerSpans
from codebackdoor.defenses.elimination.inversion.vocabulary import TriggerVocabulary, build, rendered_text
from codebackdoor.errors import UserError
from codebackdoor.heads import HEADS
from codebackdoor.seeding import numpy_generator
from codebackdoor.types import Example, Poisoned
from codebackdoor.victims.inference import class_logits
from codebackdoor.victims.victim import Victim, load_victim

#: Number of samples, and the minimum number of identifiers in each.
SAMPLES, IDENTIFIERS = 20, 4


def probe(
    settings: EliBadCodeSettings, dataset: AnyDataset, victim: Path, triggered: Path, clean: Path, out: Path, seed: int
) -> None:
    """Write ``out/positions.json`` on the first samples that the victim predicts right without the trigger.

    ``triggered`` and ``clean`` are the test sets with the trigger and without. Raises UserError for a victim that is
    not a classifier of single functions, and for triggers that are not identifiers.
    """
    loaded = load_victim(victim)
    head = HEADS[loaded.head]
    if not head.predicts_label or head.reads_pairs:
        raise UserError("probing positions needs a classifier of single functions; this victim has another task")
    sources = {example.id: example for example in files.read_examples(clean)}
    rows = [row for row in files.read_poisoned(triggered) if row.status == "injected"]
    samples: list[dict[str, object]] = []
    for row in rows:
        if len(samples) == SAMPLES:
            break
        sample = _sample(loaded, settings, dataset, row, sources[row.source_id], seed)
        if sample is not None:
            samples.append(sample)
    if not samples:
        raise UserError(f"{clean}: no sample is predicted correctly and has {IDENTIFIERS} identifiers to replace")
    budget = {key: getattr(settings, key) for key in ("length", "iterations", "top_k", "candidates", "occurrences")}
    files.write_json(out / POSITIONS, {"budget": budget, "samples": samples})


def _sample(
    victim: Victim, settings: EliBadCodeSettings, dataset: AnyDataset, row: Poisoned, source: Example, seed: int
) -> dict[str, object] | None:
    """One sample as JSON: the probability of the target for the unchanged code and each identifier; None if unfit."""
    target, label = row.example.label, source.label
    if target is None or label is None:
        raise UserError(f"test row {row.example.id} has no label")
    encoded = victim.encode([source.code])[0]
    cuts = ((spans, cut(victim, source.code, encoded, spans)) for spans in _identifiers(source, dataset, settings))
    reached = [(spans, Carrier((template,))) for spans, template in cuts if template]
    before = _probabilities(victim, [encoded.ids], target)[0]
    if len(reached) < IDENTIFIERS or int(class_logits(victim, [encoded.ids]).argmax()) != label:
        return None
    carriers = [carrier for _, carrier in reached]
    complete = build(victim.tokenizer, settings.vocabulary, dataset.language, contexts(carriers))
    vocabulary = without(complete, _trigger(row))
    generator = numpy_generator(seed, "probe", source.id)
    objective = ClassifierObjective(victim, carriers[:1], vocabulary, LABEL_LOSSES[settings.loss](target), settings)
    inverted = search(objective, generator, title=f"perturb {source.id}")
    texts = {"trigger": _trigger(row), "perturbation": vocabulary.text(inverted.trigger)}
    columns = {
        name: _probabilities(
            victim, [carrier.fill(*rendered_text(vocabulary, text))[0] for carrier in carriers], target
        )
        for name, text in texts.items()
    }
    changes = [change for _, change in sensitivities(victim, [source], [[spans for spans, _ in reached]])[0]]
    positions = [
        {"name": spans.name, "change": change, **{name: column[index] for name, column in columns.items()}}
        for index, ((spans, _), change) in enumerate(zip(reached, changes, strict=True))
    ]
    return {"id": source.id, "target": target, "before": before, **texts, "positions": positions}


def _identifiers(source: Example, dataset: AnyDataset, settings: EliBadCodeSettings) -> list[TriggerSpans]:
    """The renameable identifiers in order of first occurrence, each with that occurrence or with all."""
    tree = syntax.parse(source.code, dataset.language, dataset.text_form)
    names = sorted((name for name in tree.identifiers() if name.renameable), key=lambda name: name.spans[0])
    return [TriggerSpans(name.name, name.spans if settings.occurrences == "all" else name.spans[:1]) for name in names]


def _trigger(row: Poisoned) -> str:
    """The trigger in the first span that the attack wrote into the code."""
    span = next((span for span in row.spans if span.field == "code"), None)
    text = "" if span is None else row.example.code[span.start : span.end]
    if not text.isidentifier():
        raise UserError(f"probing positions needs a trigger that is an identifier, but {row.attack} wrote {text!r}")
    return text


def without(vocabulary: TriggerVocabulary, trigger: str) -> TriggerVocabulary:
    """The vocabulary without the pieces that the trigger contains, in upper or lower case."""
    remaining = [index for index, piece in enumerate(vocabulary.pieces) if piece.lower() not in trigger.lower()]
    return replace(
        vocabulary,
        pieces=tuple(vocabulary.pieces[index] for index in remaining),
        plain=vocabulary.plain[remaining],
        spaced=vocabulary.spaced[remaining],
        first=np.flatnonzero(np.isin(remaining, vocabulary.first)),
    )


def _probabilities(victim: Victim, rows: Sequence[Sequence[int]], target: int) -> list[float]:
    """Probability of the target for each row of token ids, rounded as confidences are."""
    shares = torch.softmax(class_logits(victim, rows).float(), dim=1)[:, target]
    return [round(share, 6) for share in shares.tolist()]
