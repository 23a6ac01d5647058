"""The scan: invert a trigger for every position and label, and say which is an outlier (EliBadCode, lines 36-44)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from codebackdoor.defenses.elimination import NO_CONTEXT, SearchContext
from codebackdoor.defenses.elimination.elibadcode.anchoring import Anchored, anchor
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.inversion.calibration.losses import Calibration, log_ratio
from codebackdoor.defenses.elimination.inversion.candidates import contexts
from codebackdoor.defenses.elimination.inversion.carriers import Carrier
from codebackdoor.defenses.elimination.inversion.classifier import ClassifierObjective
from codebackdoor.defenses.elimination.inversion.loss import LABEL_LOSSES, InversionLoss
from codebackdoor.defenses.elimination.inversion.resume import SearchProgress
from codebackdoor.defenses.elimination.inversion.reuse import NO_TRAJECTORIES, Trajectories
from codebackdoor.defenses.elimination.inversion.samples import Samples, carriers_of_other_labels, draw, labels_of
from codebackdoor.defenses.elimination.inversion.search import SearchObjective, Trajectory, search
from codebackdoor.defenses.elimination.inversion.vocabulary import TriggerVocabulary, build
from codebackdoor.defenses.views import DefenderView
from codebackdoor.seeding import numpy_generator
from codebackdoor.victims.progress import digest


@dataclass(frozen=True, slots=True)
class Finding:
    """One label at one position: the result of the search from each start, and the margin over benign victims."""

    label: int
    position: str
    carriers: tuple[Carrier, ...]
    vocabulary: TriggerVocabulary
    trajectories: tuple[Trajectory, ...]
    margin: float | None = None

    @property
    def best(self) -> Trajectory:
        """The trajectory that ended lowest."""
        return min(self.trajectories, key=lambda trajectory: trajectory.loss)


class Scan(ABC):
    """Searches at every position for every label; a subclass defines what is searched, and on which samples."""

    #: Format of a search's title, for progress bars and saved progress.
    title: str

    def __init__(
        self, view: DefenderView, settings: EliBadCodeSettings, seed: int, samples: Mapping[int, Samples]
    ) -> None:
        self.view, self.settings, self.seed, self.samples = view, settings, seed, samples

    @abstractmethod
    def texts(self) -> object:
        """The texts of the samples, as JSON; they tell apart the saved progress of different samples."""

    @abstractmethod
    def carriers(self, position: str, label: int) -> tuple[Carrier, ...]:
        """The samples on which a trigger for this label is searched."""

    @abstractmethod
    def objective(self, carriers: Sequence[Carrier], vocabulary: TriggerVocabulary, label: int) -> SearchObjective:
        """What is searched on them."""

    @abstractmethod
    def anchor(self, finding: Finding) -> Anchored:
        """The pieces of a finding's trigger that carry its effect."""

    def code_carriers(self, carriers: Sequence[Carrier]) -> Sequence[Carrier]:
        """The same samples with only the trigger's holes."""
        return carriers

    def facts(self, finding: Finding) -> dict[str, object]:  # noqa: ARG002
        """Further entries of a finding in ``elimination.json``."""
        return {}

    def run(self, context: SearchContext = NO_CONTEXT, earlier: Trajectories = NO_TRAJECTORIES) -> list[Finding]:
        """The findings in the order of the search; a killed scan is resumed, ``earlier`` trajectories are reused."""
        settings, view = self.settings, self.view
        facts = settings.model_dump(mode="json"), self.seed, self.texts()
        progress = SearchProgress(context.folder, digest(view.victim.model, *facts, code=context.code))
        findings: list[Finding] = []
        for position in settings.positions:
            for label in self.samples:
                carriers = self.carriers(position, label)
                where = contexts(self.code_carriers(carriers))
                vocabulary = build(view.victim.tokenizer, settings.vocabulary_at(position), view.language, where)
                objective = self.objective(carriers, vocabulary, label)
                trajectories = tuple(
                    earlier.get((position, label, restart))
                    or search(
                        objective,
                        numpy_generator(self.seed, "elibadcode", "search", position, str(label), str(restart)),
                        self.title.format(label=label, position=position, start=restart + 1),
                        progress,
                    )
                    for restart in range(settings.restarts)
                )
                findings.append(Finding(label, position, carriers, vocabulary, trajectories))
        return findings


class LabelScan(Scan):
    """The scan of a classifier: every label is tried as the target, on the samples of the other labels."""

    title = "invert label {label} at {position}, start {start}"

    @classmethod
    def draw(cls, view: DefenderView, settings: EliBadCodeSettings, seed: int) -> LabelScan:
        """The scan of all labels, on samples drawn by seed."""
        return cls(view, settings, seed, draw(view, settings, labels_of(view.victim), seed))

    def loss_function(self, label: int) -> InversionLoss:
        """What the search for a label minimizes."""
        return LABEL_LOSSES[self.settings.loss](label)

    def texts(self) -> object:
        return {
            label: [[example.code, example.code_b] for example in drawn.examples]
            for label, drawn in self.samples.items()
        }

    def carriers(self, position: str, label: int) -> tuple[Carrier, ...]:
        return carriers_of_other_labels(self.samples, position, label)

    def objective(self, carriers: Sequence[Carrier], vocabulary: TriggerVocabulary, label: int) -> SearchObjective:
        return ClassifierObjective(self.view.victim, carriers, vocabulary, self.loss_function(label), self.settings)

    def anchor(self, finding: Finding) -> Anchored:
        carriers, vocabulary, trigger = finding.carriers, finding.vocabulary, finding.best.trigger
        return anchor(
            self.view.victim, carriers, vocabulary, trigger, self.loss_function(finding.label), self.settings.beta
        )


def losses_of(findings: Sequence[Finding]) -> dict[str, dict[str, float]]:
    """The lowest loss of each position and label, as JSON holds them."""
    losses: dict[str, dict[str, float]] = {}
    for finding in findings:
        losses.setdefault(finding.position, {})[str(finding.label)] = finding.best.loss
    return losses


def measure(findings: Sequence[Finding], calibration: Calibration | None) -> list[Finding]:
    """Add each finding's margin over the benign shadows; it stays None without a calibration."""
    if calibration is None:
        return list(findings)
    return [
        replace(finding, margin=calibration.margin(finding.position, finding.label, finding.best.loss))
        for finding in findings
    ]


def verdict(findings: Sequence[Finding], ratio: float) -> tuple[Finding, bool]:
    """Return the most suspicious finding and whether it is an outlier: a loss of at most ``ratio`` of the shadows'.

    Without margins (``calibration: null``), the finding with the lowest loss always counts as an outlier.
    """
    margins = [finding.margin for finding in findings if finding.margin is not None]
    if not margins:
        return min(findings, key=lambda finding: finding.best.loss), True
    worst = findings[margins.index(max(margins))]
    return worst, max(margins) >= log_ratio(1.0, ratio)
