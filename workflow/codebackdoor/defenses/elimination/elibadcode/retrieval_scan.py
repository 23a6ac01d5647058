"""The scan of a retrieval victim: no labels, but positions; trigger and target words are searched together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from codebackdoor.defenses.elimination.elibadcode import retrieval
from codebackdoor.defenses.elimination.elibadcode.anchoring import Anchored
from codebackdoor.defenses.elimination.elibadcode.scan import Finding, Scan
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.elibadcode.words import NO_WORDS, query_template, target_words
from codebackdoor.defenses.elimination.inversion.carriers import Carrier
from codebackdoor.defenses.elimination.inversion.loss import CosineGap, InversionLoss
from codebackdoor.defenses.elimination.inversion.samples import ASSOCIATION, Samples, draw, labels_of
from codebackdoor.defenses.elimination.inversion.search import SearchObjective
from codebackdoor.defenses.elimination.inversion.vocabulary import TriggerVocabulary
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError


class RetrievalScan(Scan):
    """Every position is tried on the same samples, each with a hole in its query and in its function."""

    title = "invert trigger and target at {position}, start {start}"
    #: What the search minimizes.
    loss_function: InversionLoss = CosineGap()

    def __init__(
        self, view: DefenderView, settings: EliBadCodeSettings, seed: int, samples: Mapping[int, Samples]
    ) -> None:
        super().__init__(view, settings, seed, samples)
        if len(self._drawn.examples) < 2:
            raise UserError("EliBadCode: a search for trigger and target words needs two clean samples at least")
        self.words = NO_WORDS
        if settings.target_word is None:
            self.words = target_words(view.victim, (str(example.query) for example in view.clean))

    @classmethod
    def draw(cls, view: DefenderView, settings: EliBadCodeSettings, seed: int) -> RetrievalScan:
        """The scan on samples drawn by seed, of those whose query has the target word if that is known."""
        samples = draw(_with_word(view, settings.target_word), settings, labels_of(view.victim), seed)
        return cls(view, settings, seed, samples)

    @property
    def _drawn(self) -> Samples:
        return self.samples[ASSOCIATION]

    def texts(self) -> object:
        return [[example.query, example.code] for example in self._drawn.examples]

    def carriers(self, position: str, label: int) -> tuple[Carrier, ...]:
        return with_query(self.view, self.samples[label], position)

    def code_carriers(self, carriers: Sequence[Carrier]) -> Sequence[Carrier]:
        return retrieval.code_carriers(carriers)

    def objective(self, carriers: Sequence[Carrier], vocabulary: TriggerVocabulary, label: int) -> SearchObjective:  # noqa: ARG002
        victim, settings = self.view.victim, self.settings
        return retrieval.RetrievalObjective(victim, carriers, vocabulary, self.words, self.loss_function, settings)

    def anchor(self, finding: Finding) -> Anchored:
        victim, carriers, vocabulary = self.view.victim, finding.carriers, finding.vocabulary
        anchored = retrieval.anchor(
            victim, carriers, vocabulary, self.words, finding.best, self.loss_function, self.settings.beta
        )
        target_word = self.settings.target_word
        return anchored if target_word is None else replace(anchored, words=target_word)

    def facts(self, finding: Finding) -> dict[str, object]:
        return {"words": len(self.words), "target": self.words.text(finding.best.target)}


def _with_word(view: DefenderView, word: str | None) -> DefenderView:
    """The view with only the samples whose query contains ``word`` (a whole word, in any case); with all for None."""
    if word is None:
        return view
    pattern = re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE)
    clean = tuple(example for example in view.clean if pattern.search(str(example.query)))
    if len(clean) < 2:
        raise UserError(
            f"EliBadCode: target_word: {word}: {len(clean)} of {len(view.clean)} clean queries have the word, and two "
            "are needed; name a more frequent one, or null to search for it"
        )
    return replace(view, clean=clean)


def with_query(view: DefenderView, samples: Samples, position: str) -> tuple[Carrier, ...]:
    """The samples with a hole in the query as well."""
    tokenized = view.victim.tokenize(samples.examples)
    return tuple(
        Carrier((query_template(view.victim, query), *carrier.templates))
        for (query, _), carrier in zip(tokenized, samples.carriers[position], strict=True)
        if carrier
    )
