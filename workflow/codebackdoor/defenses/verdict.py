"""Is this checkpoint backdoored, and what if it is: EliBadCode for a person with a model and clean samples.

The search is that of a calibration: one that ships with the package, a file, or one made of benign models that the
person trained like the model in question. Without one no loss says "clean" or "backdoored".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from tqdm import tqdm

from codebackdoor import files
from codebackdoor.config.eliminations import CALIBRATIONS, SCANNED, SCANNED_ALL, EliBadCode, Unlearning
from codebackdoor.defenses.elimination import Inverted, Trigger
from codebackdoor.defenses.elimination.elibadcode import eliminate, find, findings_of, labels_of, shadows
from codebackdoor.defenses.elimination.elibadcode.position import places, put
from codebackdoor.defenses.elimination.elibadcode.unlearning import stamp
from codebackdoor.defenses.elimination.last_layer import POOL, fine_tune
from codebackdoor.errors import UserError
from codebackdoor.pools import pools
from codebackdoor.seeding import numpy_generator
from codebackdoor.types import DefenderView, Example, Pair
from codebackdoor.victims.inference import NO_NUMBER, answers, text_vectors
from codebackdoor.victims.reading import similarities
from codebackdoor.victims.retrieval import Searcher
from codebackdoor.victims.temperature import standardized
from codebackdoor.victims.victim import Victim

#: What the default study adds to the search of its calibrations (config.yaml, eliminations.elibadcode).
LOCAL = EliBadCode(
    method="elibadcode", beta=0.002, unlearning=Unlearning(layers="all", epochs=2, learning_rate=2.0e-4, rate=0.5)
)
#: The paper's search and unlearning, for a model that no calibration fits; at both places, since a backdoor may be
#: bound to the one where its attack put it (docs/feasibility.md, Where the trigger works).
PAPER = EliBadCode(method="elibadcode", keep_current=False, position="scan")

#: Share of the clean samples on which the cost of unlearning is measured.
HELD_OUT = 0.2
#: Unlearning is repeated, at most so often, until the trigger turns no larger share of the samples it is unlearnt on:
#: how many steps a model needs depends on its make, and after too few the backdoor is as good as ever.
ROUNDS, TURNED = 6, 0.05
#: Beyond this share of the samples that were held out, the trigger is not gone.
LEFT = 0.1


@dataclass(frozen=True, slots=True)
class Verdict:
    """``backdoored`` is None where no calibration says how low a benign model's losses are.

    ``trigger`` is the anchored one and ``loss`` its own (nats). ``margin`` is log(lowest loss of a benign shadow /
    loss of the search), from ``threshold`` on a label is flagged. ``false_positive_rate`` is the share of the
    ``shadows`` that the others would have flagged, ``at_most`` the end of its one-sided 95 % interval.

    For code search ``target_word`` holds the words of a query that call the trigger, in place of a label, and losses
    are squared differences of a cosine to 1. Its ``clean_accuracy`` is the MRR in pools of at least ``POOL`` rows.
    """

    backdoored: bool | None
    target_label: int
    trigger: str
    position: str
    loss: float
    inverted_trigger: str
    inverted_loss: float
    margin: float | None
    threshold: float | None
    false_positive_rate: float | None
    at_most: float | None
    shadows: int
    calibration: str | None
    losses: Mapping[str, Mapping[str, float]]
    clean_accuracy: float
    #: Share of the most frequent label, of search the MRR of random ranks: no better than that, the model does not do
    #: its task on these samples.
    largest_class: float
    target_word: str | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """Shares of rows that were not unlearnt on: answered correctly, and turned to the target by the trigger.

    The latter are of ``flip_rows``, those of other labels that are answered correctly and have a place for it; the rate
    afterwards is of those that the edited model answers correctly. ``rounds`` says how often was unlearnt.

    For code search the accuracies are MRRs, and a ``flip_row`` is a pair of a query with the target words behind it and
    the function of another row of its pool that ranks below the query's own; turned, it ranks above.
    """

    rows: int
    accuracy_before: float
    accuracy_after: float
    flip_rows: int
    flip_rate_before: float | None
    flip_rate_after: float | None
    unlearnt_on: int
    rounds: int

    @property
    def is_gone(self) -> bool:
        return self.flip_rate_after is not None and self.flip_rate_after <= LEFT


def settings_for(view: DefenderView, calibration: str | None, settings: EliBadCode | None) -> EliBadCode:
    """The search of the calibration that is named, else of a shipped one that fits the view, else the paper's.

    ``settings`` are what the person says instead. Raises UserError where the calibration that is named does not fit.
    """
    if calibration is not None:
        return _fitting(view, calibration, settings)
    for path in sorted(CALIBRATIONS.glob("*.json")):
        try:
            return _fitting(view, path.stem, settings)
        except UserError:
            continue
    return (settings or PAPER).model_copy(update={"calibration": None})


def _fitting(view: DefenderView, name: str, settings: EliBadCode | None) -> EliBadCode:
    if settings is None:
        path = shadows.existing(name)
        found = shadows.read(path)
        # behind a shipped calibration stand small models; they unlearn as in the default study, as often as it takes
        base = LOCAL if path.parent == CALIBRATIONS else PAPER
        scans = {frozenset(SCANNED): "scan", frozenset(SCANNED_ALL): "scan_all"}
        position = scans.get(frozenset(found.losses), next(iter(found.losses), ""))
        search = {key: found.budget[key] for key in EliBadCode.SEARCH if key in found.budget}
        try:
            settings = EliBadCode.model_validate(base.model_dump() | search | {"position": position})
        except ValueError:
            raise UserError(f"{path}: not a calibration of a search that this version knows") from None
    settings = settings.model_copy(update={"calibration": name})
    shadows.load(name, view, settings, labels_of(view.victim))
    return settings


def calibrate_on(
    view: DefenderView, benign: Sequence[Path], load: Callable[[Path], Victim], settings: EliBadCode, out: Path
) -> None:
    """Scan benign models of the same make on the same samples, and write the calibration to ``out``.

    Raises UserError for fewer than five, and for one of another class, size or number of labels.
    """
    if len(set(benign)) < shadows.SHADOWS:
        raise UserError(f"--benign: {len(set(benign))} models; a calibration needs at least {shadows.SHADOWS}")
    make = shadows.made_like(view.victim)
    losses: dict[str, dict[str, dict[str, float]]] = {}
    for number, folder in enumerate(tqdm(benign, desc="benign models", disable=None), 1):
        victim = load(folder)
        if shadows.made_like(victim) != make or labels_of(victim) != labels_of(view.victim):
            raise UserError(f"{folder}: not made like the model in question: {shadows.made_like(victim)}, not {make}")
        own = losses.setdefault(f"benign{number}", {})
        seen = replace(view, victim=standardized(victim, view.clean))
        for found in findings_of(seen, settings, number):
            own.setdefault(found.place, {})[str(found.label)] = round(found.inversion.loss, 6)
    data = {"language": view.language, "text_form": view.text_form}
    calibration = shadows.make(view.task, settings, view.victim.head, losses, {"dataset": data, "victim": make})
    files.write_json(out, shadows.as_json(calibration, settings.ratio))


def judge(view: DefenderView, settings: EliBadCode, seed: int) -> Verdict:
    """Scan the model, nothing else."""
    return _verdict(view, settings, find(view, settings, seed)[0])


def unlearn(view: DefenderView, settings: EliBadCode, seed: int, force: bool) -> tuple[Verdict, Victim, Cost | None]:
    """Scan the model and return it without the trigger, with what that cost on samples that are held out.

    Without ``force``, the model itself and no cost where the scan does not say "backdoored".
    """
    learnt, held = _parts(view.clean, seed)
    settings = settings.model_copy(update={"unlearn_when_clean": force})
    if settings.calibration is None and not force:
        return judge(view, settings, seed), view.victim, None
    # by all samples, so that the verdict is that of `judge`
    trigger, history = find(view, settings, seed)
    verdict = _verdict(view, settings, trigger)
    if not trigger.flagged and not force:
        return verdict, view.victim, None
    view, measured = replace(view, clean=learnt), replace(view, clean=held)
    edited, rounds = eliminate(view, settings, seed, inverted=Inverted(trigger, history)).victim, 1
    while rounds < ROUNDS:
        turned = flips(view, edited, trigger, settings.pair)[1]
        # of a model that answers nothing correctly any more, none can be turned: that is no end, either
        if turned is not None and turned <= TURNED:
            break
        rounds += 1
        generator = numpy_generator(seed, "elibadcode", "unlearning", str(rounds))
        rows = stamp(view, trigger, settings.pair, settings.unlearning, generator)
        edited, _ = fine_tune(edited, rows, settings.unlearning, settings.unlearning.labels == "ascent", generator)
    before, after = (flips(measured, victim, trigger, settings.pair) for victim in (view.victim, edited))
    accuracies = [_accuracy(victim, held) for victim in (view.victim, edited)]
    cost = Cost(len(held), accuracies[0], accuracies[1], before[0], before[1], after[1], len(learnt), rounds)
    return verdict, edited, cost


def _verdict(view: DefenderView, settings: EliBadCode, trigger: Trigger) -> Verdict:
    rate = at_most = threshold = None
    benign = 0
    if settings.calibration is not None:
        calibration = shadows.load(settings.calibration, view, settings, labels_of(view.victim))
        rate = shadows.false_positive_rate(calibration, settings.ratio)
        benign = shadows.shadow_count(calibration)
        wrong = round(rate * benign)
        at_most = 1.0 if wrong == benign else float(stats.beta.ppf(0.95, wrong + 1, benign - wrong))
        threshold = shadows.log_ratio(1.0, settings.ratio)
    return Verdict(
        backdoored=None if settings.calibration is None else trigger.flagged,
        target_label=trigger.target_label,
        trigger=trigger.text,
        position=trigger.position,
        loss=trigger.loss,
        inverted_trigger=trigger.inverted_text,
        inverted_loss=trigger.inverted_loss,
        margin=trigger.margin,
        threshold=threshold,
        false_positive_rate=rate,
        at_most=at_most,
        shadows=benign,
        calibration=settings.calibration,
        losses=trigger.losses,
        clean_accuracy=_accuracy(view.victim, view.clean),
        largest_class=_by_chance(view),
        target_word=trigger.target_word,
    )


def _parts(clean: Sequence[Example], seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Samples to unlearn on, and of every label a share to measure on."""
    order = [clean[index] for index in numpy_generator(seed, "checkpoint", "held out").permutation(len(clean))]
    held: list[Example] = []
    for label in sorted({str(one.label) for one in order}):
        own = [one for one in order if str(one.label) == label]
        held += own[: round(HELD_OUT * len(own))]
    if not held:
        raise UserError("too few clean samples: some have to be held out, to measure what unlearning costs")
    # by identity: rows of other people may share an id
    kept = {id(one) for one in held}
    return tuple(one for one in order if id(one) not in kept), tuple(held)


def flips(view: DefenderView, victim: Victim, trigger: Trigger, pair: Pair) -> tuple[int, float | None]:
    """Rows of other labels that the victim answers correctly, and the share of them that the trigger turns."""
    if victim.head == "retrieval":
        return _lifted(view, victim, trigger, pair)
    rows = [one for one in view.clean if one.label != trigger.target_label]
    found = places(view, rows, trigger.position, trigger.occurrences, pair)
    placed = [(row, own) for row, own in zip(rows, found, strict=True) if own is not None]
    plain = [row for row, _ in placed]
    right = _answers(victim, plain) == _truth(plain)
    turned = _answers(victim, [put(row, own, trigger.text) for row, own in placed]) == trigger.target_label
    return int(right.sum()), float(turned[right].mean()) if right.any() else None


def _lifted(view: DefenderView, victim: Victim, trigger: Trigger, pair: Pair) -> tuple[int, float | None]:
    """Pairs of a query, with the target words behind it, and another row's function that the victim ranks below the
    query's own; and the share of them in which the trigger lifts that function above it."""
    found = places(view, view.clean, trigger.position, trigger.occurrences, pair)
    placed = [(row, own) for row, own in zip(view.clean, found, strict=True) if own is not None]
    asked = [replace(row, query=f"{row.query} {trigger.target_word}") for row, _ in placed]
    plain, stamped = victim.read(asked), victim.read([put(row, own, trigger.text) for row, own in placed])
    query, code = (text_vectors(victim, [texts[field].ids for texts in plain]) for field in (0, 1))
    lifted = text_vectors(victim, [texts[1].ids for texts in stamped])
    below = above = 0
    for pool in pools(len(placed), POOL):
        own = slice(pool.start, pool.stop)
        without, having = (similarities(victim, query[own, None], one[None, own]) for one in (code, lifted))
        answer = without.diagonal()[:, None]
        below += int((without < answer).sum())
        above += int(((without < answer) & (having > answer)).sum())
    return below, above / below if below else None


def _by_chance(view: DefenderView) -> float:
    """What a model reaches that does not read: one answer for all, in search random ranks."""
    if view.victim.head != "retrieval":
        return float(np.bincount(_truth(view.clean)).max() / len(view.clean))
    ranks = [rank for pool in pools(len(view.clean), POOL) for rank in range(1, len(pool) + 1)]
    return float(np.mean(1 / np.array(ranks)))


def _accuracy(victim: Victim, rows: Sequence[Example]) -> float:
    if victim.head != "retrieval":
        return float(np.mean(_answers(victim, rows) == _truth(rows)))
    found = Searcher(victim, rows, POOL).clean()
    if not np.isfinite([one.confidence for one in found]).all():
        raise UserError(NO_NUMBER)
    return float(np.mean([1 / (one.rank or np.nan) for one in found]))


def _truth(rows: Sequence[Example]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([row.label for row in rows], dtype=np.int64)


def _answers(victim: Victim, rows: Sequence[Example]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The victim's label of each row. UserError where it has none, since a weight is no number."""
    logits = answers(victim, [[text.ids for text in texts] for texts in victim.read(rows)])
    if not bool(torch.isfinite(logits).all()):
        raise UserError(NO_NUMBER)
    found: np.ndarray[tuple[int], np.dtype[np.int64]] = logits.argmax(dim=1).numpy()
    return found
