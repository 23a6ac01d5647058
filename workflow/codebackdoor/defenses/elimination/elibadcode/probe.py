"""What a trigger and a perturbation do at each identifier of a sample (EliBadCode, section 4.3 and Figure 3).

A measurement, not a defense: it knows the factual trigger. For single samples, a perturbation is searched at the first
identifier as a trigger is for many; then both are put in place of every identifier. The search may use no piece of the
factual trigger: at the place of the attack it would find just that, and not another perturbation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from codebackdoor import files, syntax
from codebackdoor.config.datasets import AnyDataset
from codebackdoor.config.eliminations import EliBadCode
from codebackdoor.config.scenario import POSITIONS
from codebackdoor.defenses.elimination.elibadcode.inversion import contexts, rendered_text, search
from codebackdoor.defenses.elimination.elibadcode.position import Carrier, Place, cut, sensitivities
from codebackdoor.defenses.elimination.elibadcode.vocabulary import TriggerVocabulary, build
from codebackdoor.errors import UserError
from codebackdoor.seeding import numpy_generator
from codebackdoor.types import Example, Poisoned
from codebackdoor.victims.inference import class_logits
from codebackdoor.victims.victim import Victim, load_victim

#: Samples that are looked at, and the fewest identifiers that they have.
SAMPLES, IDENTIFIERS = 20, 4


def probe(
    settings: EliBadCode, dataset: AnyDataset, victim: Path, triggered: Path, clean: Path, out: Path, seed: int
) -> None:
    """Write ``out/positions.json`` on the first samples that the victim predicts right without the trigger.

    ``triggered`` and ``clean`` are the test sets with the trigger and without. Raises UserError for a victim that is
    not a classifier of single functions, and for triggers that are no identifiers.
    """
    asked = load_victim(victim)
    if asked.head != "classification":
        raise UserError("probing positions asks for the label of a single function; this victim has another task")
    known = {example.id: example for example in files.read_examples(clean)}
    rows = [row for row in files.read_poisoned(triggered) if row.status == "injected"]
    found: list[dict[str, object]] = []
    for row in rows:
        if len(found) == SAMPLES:
            break
        sample = _sample(asked, settings, dataset, row, known[row.source_id], seed)
        if sample is not None:
            found.append(sample)
    if not found:
        raise UserError(f"{clean}: no sample is predicted right and has {IDENTIFIERS} identifiers to be replaced")
    budget = {key: getattr(settings, key) for key in ("length", "iterations", "top_k", "candidates", "occurrences")}
    files.write_json(out / POSITIONS, {"budget": budget, "samples": found})


def _sample(
    victim: Victim, settings: EliBadCode, dataset: AnyDataset, row: Poisoned, source: Example, seed: int
) -> dict[str, object] | None:
    """One sample as JSON: of the unchanged code and of each place, the probability of the target; None if unfit."""
    target, label = row.example.label, source.label
    if target is None or label is None:
        raise UserError(f"test row {row.example.id} has no label")
    encoded = victim.encode([source.code])[0]
    cuts = ((place, cut(victim, source.code, encoded, place)) for place in _places(source, dataset, settings))
    own = [(place, Carrier((prompt,))) for place, prompt in cuts if prompt]
    before = _probabilities(victim, [encoded.ids], target)[0]
    if len(own) < IDENTIFIERS or int(class_logits(victim, [encoded.ids]).argmax()) != label:
        return None
    carriers = [carrier for _, carrier in own]
    whole = build(victim.tokenizer, settings.vocabulary, dataset.language, contexts(carriers))
    vocabulary = without(whole, _trigger(row))
    generator = numpy_generator(seed, "probe", source.id)
    inverted = search(victim, carriers[:1], vocabulary, target, settings, generator, title=f"perturb {source.id}")
    texts = {"trigger": _trigger(row), "perturbation": vocabulary.text(inverted.trigger)}
    columns = {
        name: _probabilities(
            victim, [carrier.fill(*rendered_text(vocabulary, text))[0] for carrier in carriers], target
        )
        for name, text in texts.items()
    }
    changes = [change for _, change in sensitivities(victim, [source], [[place for place, _ in own]])[0]]
    positions = [
        {"name": place.name, "change": change, **{name: column[index] for name, column in columns.items()}}
        for index, ((place, _), change) in enumerate(zip(own, changes, strict=True))
    ]
    return {"id": source.id, "target": target, "before": before, **texts, "positions": positions}


def _places(source: Example, dataset: AnyDataset, settings: EliBadCode) -> list[Place]:
    """Each identifier once, by its first occurrence or all, in the order in which they first stand."""
    tree = syntax.parse(source.code, dataset.language, dataset.text_form)
    found = sorted((one for one in tree.identifiers() if one.renameable), key=lambda one: one.spans[0])
    return [Place(one.name, one.spans if settings.occurrences == "all" else one.spans[:1]) for one in found]


def _trigger(row: Poisoned) -> str:
    """What the attack wrote into the code, at the first place."""
    span = next((one for one in row.spans if one.field == "code"), None)
    text = "" if span is None else row.example.code[span.start : span.end]
    if not text.isidentifier():
        raise UserError(f"probing positions needs a trigger that is an identifier, but {row.attack} wrote {text!r}")
    return text


def without(vocabulary: TriggerVocabulary, trigger: str) -> TriggerVocabulary:
    """The vocabulary without the pieces that the trigger is, or may be, made of, in whatever case."""
    kept = [index for index, piece in enumerate(vocabulary.pieces) if piece.lower() not in trigger.lower()]
    return replace(
        vocabulary,
        pieces=tuple(vocabulary.pieces[index] for index in kept),
        plain=vocabulary.plain[kept],
        spaced=vocabulary.spaced[kept],
        first=np.flatnonzero(np.isin(kept, vocabulary.first)),
    )


def _probabilities(victim: Victim, rows: Sequence[Sequence[int]], target: int) -> list[float]:
    """Probability of the target for each row of token ids, rounded as confidences are."""
    shares = torch.softmax(class_logits(victim, rows).float(), dim=1)[:, target]
    return [round(share, 6) for share in shares.tolist()]
