"""EliBadCode on code search: no labels to scan, but places; trigger and target words are found together."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path

from codebackdoor.config.eliminations import EliBadCode
from codebackdoor.defenses.elimination import Trigger
from codebackdoor.defenses.elimination.elibadcode import association, outcome
from codebackdoor.defenses.elimination.elibadcode.association import Words
from codebackdoor.defenses.elimination.elibadcode.inversion import Inversion, contexts
from codebackdoor.defenses.elimination.elibadcode.position import Carrier
from codebackdoor.defenses.elimination.elibadcode.resuming import Searches
from codebackdoor.defenses.elimination.elibadcode.scan import Finding, Samples, draw, measure, verdict
from codebackdoor.defenses.elimination.elibadcode.shadows import Calibration
from codebackdoor.defenses.elimination.elibadcode.vocabulary import build
from codebackdoor.defenses.elimination.elibadcode.walks import NONE, Walks
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError
from codebackdoor.seeding import numpy_generator
from codebackdoor.victims.progress import digest

#: Stands for the one association of a victim, where others have labels.
LABEL = 0


def scan(
    view: DefenderView,
    settings: EliBadCode,
    seed: int,
    work: Path | None = None,
    code: str | None = None,
    known: Walks = NONE,
) -> tuple[list[Finding], Samples, Words]:
    """Invert trigger and target at every place; what a killed scan has found is taken up again, as ``known`` walks are.

    Where the target word is known, the samples are those whose query has it. Raises UserError where fewer than two
    samples have a place.
    """
    drawn = draw(_asked(view, settings.target_word), settings, [LABEL], seed)[LABEL]
    if len(drawn.examples) < 2:
        raise UserError("EliBadCode: a search for trigger and target words needs two clean samples at least")
    target_words = association.NO_WORDS
    if settings.target_word is None:
        target_words = association.words(view.victim, (str(example.query) for example in view.clean))
    texts = [[example.query, example.code] for example in drawn.examples]
    searches = Searches(work, digest(view.victim.model, settings.model_dump(mode="json"), seed, texts, code=code))
    findings = []
    for place in settings.places:
        carriers = asking(view, drawn, place)
        codes = [Carrier((carrier.prompts[1],)) for carrier in carriers]
        vocabulary = build(view.victim.tokenizer, settings.vocabulary_at(place), view.language, contexts(codes))
        found = []
        for restart in range(settings.restarts):
            walked = known.get((place, LABEL, restart))
            if walked is not None:
                found.append(walked)
                continue
            title = f"invert trigger and target at {place}, start {restart + 1}"
            kept = searches.state(title)
            if kept is not None:
                found.append(Inversion.from_json(kept))
                continue
            generator = numpy_generator(seed, "elibadcode", "search", place, str(LABEL), str(restart))
            found.append(
                association.search(view.victim, carriers, vocabulary, target_words, settings, generator, title)
            )
            searches.keep(title, asdict(found[-1]))
        findings.append(Finding(LABEL, place, carriers, vocabulary, tuple(found)))
    return findings, drawn, target_words


def _asked(view: DefenderView, word: str | None) -> DefenderView:
    """The view of the samples whose query has the word, as a whole one in any case; of all without a word."""
    if word is None:
        return view
    pattern = re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE)
    clean = tuple(one for one in view.clean if pattern.search(str(one.query)))
    if len(clean) < 2:
        raise UserError(
            f"EliBadCode: target_word: {word}: {len(clean)} of {len(view.clean)} clean queries have the word, and two "
            "are needed; name a more frequent one, or null to search for it"
        )
    return replace(view, clean=clean)


def asking(view: DefenderView, drawn: Samples, place: str) -> tuple[Carrier, ...]:
    """The samples with a hole in the query as well."""
    read = view.victim.read(drawn.examples)
    return tuple(
        Carrier((association.asked(view.victim, query), *carrier.prompts))
        for (query, _), carrier in zip(read, drawn.carriers[place], strict=True)
        if carrier
    )


def find(
    view: DefenderView,
    settings: EliBadCode,
    calibration: Calibration | None,
    seed: int,
    work: Path | None = None,
    code: str | None = None,
    known: Walks = NONE,
) -> tuple[Trigger, dict[str, object]]:
    """Return the anchored trigger with its target words, and how the search went."""
    findings, drawn, target_words = scan(view, settings, seed, work, code, known)
    findings = measure(findings, calibration)
    worst, flagged = verdict(findings, settings.ratio)
    anchored = association.anchor(
        view.victim, worst.carriers, worst.vocabulary, target_words, worst.inversion, settings.beta
    )
    if settings.target_word is not None:
        anchored = replace(anchored, words=settings.target_word)
    trigger = outcome.trigger_of(worst, flagged, anchored, findings, settings, seed)
    searches = [
        {
            **outcome.searched(found),
            "words": len(target_words),
            "target": target_words.text(found.inversion.target),
        }
        for found in findings
    ]
    return trigger, outcome.history(view, settings, seed, {LABEL: len(drawn.examples)}, searches, anchored)
