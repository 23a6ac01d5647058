"""Settings that all methods with trigger inversion share, and the phase in which each setting is read.

A field's type names its phase: ``samples: Searched[int]``. The phases determine which calibration fits a search, and
which finished search another elimination can reuse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field

from codebackdoor.batch_sizes import RACED_SHARE
from codebackdoor.config.base import Head, ReadWhere
from codebackdoor.costs.eliminations import positioning, search
from codebackdoor.costs.work import EliminationJob, PlannedVictim, Work
from codebackdoor.defenses.elimination.settings import (
    JUDGING,
    Budget,
    EliminationSettings,
    Heads,
    TuningSettings,
)
from codebackdoor.types import Pair

T = TypeVar("T")
#: ``positioned``: settings that say which positions are searched. ``searched``: those that the loss at a position
#: depends on. ``judged``: those that judge finished searches. ``afterwards``: those of what follows the inversion.
Phase = Literal["positioned", "searched", "judged", "afterwards"]


@dataclass(frozen=True, slots=True)
class ReadIn:
    """Annotation of a field: the phase that reads it."""

    phase: Phase


Positioned = Annotated[T, ReadIn("positioned")]
Searched = Annotated[T, ReadIn("searched")]
Judged = Annotated[T, ReadIn("judged")]
Afterwards = Annotated[T, ReadIn("afterwards")]

VocabularyRule = Literal["paper", "words", "language", "all"]
#: Losses of a search for a label (``inversion.loss.LABEL_LOSSES``).
LossName = Literal["cross_entropy", "probability"]
#: The positions that ``position: scan`` tries, in this order: identifiers, as in the paper.
SCANNED = ("least_sensitive", "function_name")
#: Those of ``position: scan_all``, which also tries a first statement of the body.
SCANNED_ALL = (*SCANNED, "statement")


class UnlearningBudget(Budget):
    """How long a victim unlearns, and how many functions get the trigger."""

    rate: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of the functions that get the trigger, and of the queries that get the words (null: the "
        "same as for all other victims; at 0.5 no pair stays as it was)",
    )


class UnlearningSettings(TuningSettings):
    """Phase (d), section 4.5: fine-tune on clean samples of which some carry the anchored trigger."""

    searching: UnlearningBudget | None = Field(
        default=None,
        description="epochs, learning_rate, layers and rate for a retrieval victim (null, the paper: the same as for "
        "all others; the released code lets all layers learn there)",
    )
    rate: float = Field(
        default=0.2, ge=0, le=1, description="share of the clean samples that get the trigger (paper: 0.2)"
    )
    classes: Literal["all", "victim"] = Field(
        default="all",
        description="classes whose samples get the trigger. all: every class; victim: all but the target (released "
        "code; classifiers only)",
    )
    places: Literal["found", "scanned"] = Field(
        default="found",
        description="position of the trigger in these samples. found: where the search found it (paper); scanned: the "
        "searched positions take turns, since a trigger that works at several is found at only one",
    )
    labels: Literal["correct", "ascent"] = Field(
        default="correct",
        description="correct: samples with the trigger keep their label (section 5.1); ascent: their loss towards the "
        "target label is raised (Eq. 4; classifiers only)",
    )


class InversionSettings(EliminationSettings):
    """What all methods that invert a trigger share: its vocabulary, its position, the samples of the search, and its
    unlearning."""

    inverts: ClassVar[bool] = True
    fits: ClassVar[Heads] = JUDGING
    read_where: ClassVar[ReadWhere] = {"rank": ("position", ("rank",)), "pair": ("head", ("pair",))}
    #: Fields newer than some finished searches and calibrations; at their default they are left out of comparisons.
    added: ClassVar[frozenset[str]] = frozenset()

    vocabulary: Searched[VocabularyRule] = Field(
        default="paper",
        description="pieces that a trigger is made of (section 4.2). paper: [A-Za-z0-9_]+ for every language. "
        "words: the same, and where all positions follow a space it may begin with a piece that only begins words. "
        "language: the language's own rule with a legal first character. all: every piece with a visible text, and "
        "inside the trigger also those that begin a word, with their space (Table 5, without phase (a))",
    )
    position: Positioned[
        Literal["least_sensitive", "function_name", "statement", "scan", "scan_all", "random", "rank"]
    ] = Field(
        default="least_sensitive",
        description="where the trigger goes in each sample. least_sensitive: it replaces the least sensitive "
        "identifier (section 4.3). function_name: it replaces the function's name. scan: both are tried, and the label "
        "scan decides. random: it replaces a random identifier (Table 5, without phase (b)). rank: it replaces the "
        "identifier with this `rank` of sensitivity (Figure 5). statement: it is inserted at the beginning of the "
        "function's body, and made of any pieces. scan_all: least_sensitive, function_name and statement are tried "
        "(statement and scan_all are from no paper)",
    )
    rank: Positioned[int] = Field(
        default=0,
        description="number of identifiers of a sample that are less sensitive than the replaced one; below 0: counted "
        "from the most sensitive one, which is -1",
    )
    occurrences: Searched[Literal["one", "all"]] = Field(
        default="one",
        description="replace one occurrence of the identifier (paper), or all, which keeps the code's meaning",
    )
    pair: Searched[Pair] = Field(
        default="both",
        description="functions of a pair that get the trigger (released code: the first); pair classification only",
    )
    samples: Searched[int] = Field(
        default=30, gt=0, description="clean samples of each class for the inversion (paper: 30)"
    )
    sample_tokens: Searched[int | None] = Field(
        default=None,
        gt=2,
        description="maximum length of a clean sample of the inversion, in the victim's sub-tokens (null, the paper: "
        "any); if fewer than twice `samples` are that short, the shortest ones are used",
    )
    length: Searched[int] = Field(
        default=5, gt=0, description="sub-tokens of the trigger that is searched, n (paper: 5)"
    )
    unlearning: Afterwards[UnlearningSettings] = Field(
        default=UnlearningSettings(), description="phase (d) of EliBadCode (section 4.5)"
    )

    @property
    def positions(self) -> tuple[str, ...]:
        """The positions that are searched, by their names in JSON."""
        if self.position == "scan":
            return SCANNED
        if self.position == "scan_all":
            return SCANNED_ALL
        return (f"rank {self.rank}" if self.position == "rank" else self.position,)

    @property
    def starts(self) -> int:
        """How often a trigger is searched for each label and position."""
        return 1

    def vocabulary_at(self, position: str) -> VocabularyRule:
        """The rule for the pieces of a trigger at this position: a statement is not an identifier."""
        return "all" if position == "statement" else self.vocabulary

    def unlearns(self, flagged: bool, head: Head) -> bool:  # noqa: ARG002
        """Whether a trigger is unlearned from a victim with this head."""
        return flagged

    def work(self, job: EliminationJob) -> Work | None:
        search = self.search_work(job.victim, job.inverted)
        return None if search is None else search + self._unlearning_work(job.victim)

    def search_work(self, victim: PlannedVictim, inverted: bool = False) -> Work | None:  # noqa: ARG002
        """The work of searching every label at every position with the full budget; None if it is not priced.

        ``inverted``: the trigger of an earlier elimination is reused.
        """
        return None

    def _samples_of_other_labels(self, victim: PlannedVictim) -> int:
        return self.samples * max(1, victim.labels - 1)

    def _positioning(self, victim: PlannedVictim, inverted: bool) -> Work:
        drawn = 0 if inverted else victim.labels * self.samples
        return positioning(victim, self.positions, drawn)

    def _unlearning_work(self, victim: PlannedVictim) -> Work:
        """The fine-tuning, and the positions in the samples that get the trigger."""
        chosen = self.unlearning.on(victim.dataset.head)
        stamped = chosen.rate * victim.rows("clean") if chosen.learns else 0
        return self.unlearning.tuning_work(victim) + positioning(victim, self.positions, stamped)

    @classmethod
    def fields_read(cls, *phases: Phase) -> tuple[str, ...]:
        """The fields that these phases read, in the order in which they are declared."""
        return tuple(name for name, field in cls.model_fields.items() if phase_of(field.metadata) in phases)

    def phase(self, *phases: Phase) -> dict[str, Any]:
        """The settings that these phases read, as JSON, without those of ``added`` at their default."""
        left_out = {name for name in self.added if getattr(self, name) == type(self).model_fields[name].default}
        return self.model_dump(mode="json", include={*self.fields_read(*phases)} - left_out)

    @classmethod
    def completed(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings from a file, with defaults for fields that may be newer than the file."""
        return {name: cls.model_fields[name].default for name in cls.added} | dict(settings)

    def searched_by(self, head: Head) -> dict[str, Any]:
        """The settings that the loss of a search on a victim with this head depends on, as JSON."""
        unread = self.unread_with(head)
        return {name: value for name, value in self.phase("searched").items() if name not in unread}

    def trigger_settings(self) -> dict[str, Any]:
        """All settings that the trigger depends on: if they are equal, so are the inverted triggers of a victim."""
        return {**self._method(), **self.phase("positioned", "searched", "judged")}

    def trajectory_settings(self) -> dict[str, Any]:
        """The settings that the steps of a search depend on; by default all, for methods that reuse no trajectories."""
        return self.trigger_settings()

    def _method(self) -> dict[str, Any]:
        return self.model_dump(include={"method"})


def phase_of(metadata: list[Any]) -> Phase | None:
    """The phase that a field's annotations name."""
    return next((item.phase for item in metadata if isinstance(item, ReadIn)), None)


class GreedySearchSettings(InversionSettings):
    """The loss and the budget of a greedy coordinate search (EliBadCode, Algorithm 1)."""

    read_where: ClassVar[ReadWhere] = {
        **InversionSettings.read_where,
        "loss": ("head", ("classification", "pair")),
    }
    added: ClassVar[frozenset[str]] = frozenset({"loss"})

    loss: Searched[LossName] = Field(
        default="cross_entropy",
        description="what a search for a label minimizes: cross_entropy towards it (paper), or probability, 1 - the "
        "label's probability, in which no sample outweighs the others (from no paper); not for retrieval",
    )
    iterations: Searched[int] = Field(default=100, ge=0, description="steps of the search, epsilon (paper: 100)")
    top_k: Searched[int] = Field(
        default=64, gt=0, description="substitutes for a slot with the steepest gradient, k (paper: 64)"
    )
    candidates: Searched[int] = Field(
        default=64, gt=0, description="candidate triggers scored in one step, r (paper: 64)"
    )
    race: Searched[int | None] = Field(
        default=None,
        gt=0,
        description="score the candidates on this many samples, and only the best eighth of them on the rest (null, "
        "the paper: score all that may still be the best)",
    )
    keep_current: Searched[bool] = Field(
        default=True,
        description="whether the current trigger competes with its candidates (paper, Algorithm 1 line 19: no); the "
        "best trigger of the whole search is kept in either case",
    )
    restarts: Searched[int] = Field(
        default=1, gt=0, description="searches from independent first triggers, the best kept (paper: 1)"
    )
    patience: Searched[int | None] = Field(
        default=None,
        gt=0,
        description="end a search after this many steps that do not lower its loss by 0.001 (null, the paper: never)",
    )

    @property
    def starts(self) -> int:
        return self.restarts

    def search_work(self, victim: PlannedVictim, inverted: bool = False) -> Work:
        samples = self._samples_of_other_labels(victim)
        scored = self.candidates * samples
        if self.race is not None and self.race < samples:
            best = math.ceil(RACED_SHARE * self.candidates)
            scored = self.candidates * self.race + best * (samples - self.race)
        steps = self.scans(inverted) * victim.labels * len(self.positions) * self.restarts * self.iterations
        return search(victim, steps, samples, self.sample_tokens, scored) + self._positioning(victim, inverted)

    def scans(self, inverted: bool) -> int:
        """How often all labels and positions are searched."""
        return 0 if inverted else 1

    def trajectory_settings(self) -> dict[str, Any]:
        """With ``patience``, the limit on the number of steps is left out, since most searches end before it.

        A search at one position does not depend on which other positions are scanned.
        """
        settings = {**self._method(), **self.phase("positioned", "searched")}
        if self.position == "scan_all":
            settings["position"] = "scan"
        if self.patience is not None:
            del settings["iterations"]
        return settings


def searched_before(eliminations: Mapping[str, EliminationSettings]) -> dict[str, tuple[str, ...]]:
    """For each variant that inverts, the earlier variants whose trajectories it may reuse.

    Those that end at the same trigger come first. All are listed, because not every variant runs on every victim: the
    first that runs on a victim searches.
    """
    inverting = {name: settings for name, settings in eliminations.items() if isinstance(settings, InversionSettings)}
    reusable: dict[str, tuple[str, ...]] = {}
    for name, settings in inverting.items():
        steps, trigger = settings.trajectory_settings(), settings.trigger_settings()
        same = [before for before in reusable if inverting[before].trajectory_settings() == steps]
        other_triggers = {before for before in same if inverting[before].trigger_settings() != trigger}
        reusable[name] = tuple(sorted(same, key=other_triggers.__contains__))
    return reusable
