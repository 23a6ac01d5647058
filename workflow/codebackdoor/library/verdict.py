"""Whether a checkpoint is backdoored: a label scan for a user who has a model and clean samples.

The scan searches as its calibration did: one that ships with the package, one from a file, or one made of benign models
that the user trained like the model in question. Without a calibration, no loss means "clean" or "backdoored".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from tqdm import tqdm

from codebackdoor import files
from codebackdoor.defenses.elimination import Inversion, Trigger, load_scanner
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.inversion.calibration import losses as calibrations
from codebackdoor.defenses.elimination.inversion.calibration.settings import CalibratedSettings
from codebackdoor.defenses.elimination.inversion.calibration.stage import scanned
from codebackdoor.defenses.elimination.inversion.samples import draw, labels_of
from codebackdoor.defenses.elimination.inversion.settings import SCANNED, SCANNED_ALL, UnlearningSettings
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError
from codebackdoor.evaluation.significance import upper_bound
from codebackdoor.heads import HEADS
from codebackdoor.library.cleaning_cost import accuracy, by_chance, flips
from codebackdoor.seeding import numpy_generator
from codebackdoor.victims.likeness import alike, sketch
from codebackdoor.victims.temperature import standardized
from codebackdoor.victims.victim import Victim

#: What the default study adds to the search of its calibrations (config.yaml, eliminations.elibadcode_extended).
LOCAL_SEARCH = EliBadCodeSettings(
    method="elibadcode",
    beta=0.002,
    rounds=4,
    unlearning=UnlearningSettings(layers="all", epochs=2, learning_rate=2.0e-4, rate=0.5),
)
#: For a model that no calibration fits: the paper's budget of search and unlearning, at both positions, since a
#: backdoor may be bound to the one where its attack put it (docs/dev/feasibility.md, Where the trigger works), and also
#: for triggers that begin with a word which the tokenizer knows only at a beginning (ledger E51). Statements are not
#: searched: over the vocabulary of a model of the hub that takes days.
UNCALIBRATED = EliBadCodeSettings(
    method="elibadcode", vocabulary="words", keep_current=False, position="scan", rounds=4
)

#: Samples on which a scan measures how many predictions its trigger turns.
SHOWN = 200


@dataclass(frozen=True, slots=True)
class Verdict:
    """``backdoored`` is None if there is no verdict, and ``reason`` says why.

    ``trigger`` is the anchored one and ``loss`` its loss (nats). ``margin`` is log(lowest loss of a benign shadow /
    loss of the search); a label is flagged if it is at least ``threshold``. ``false_positive_rate`` is the share of the
    ``shadows`` that the others would have flagged, ``at_most`` the end of its one-sided 95% interval. ``losses`` are
    those of all searches by position and label, ``starts`` how often each was searched, ``searched_on`` the number of
    samples of each label. ``flip_rate`` is the share of ``flip_rows`` that the trigger turns to its label (``Round``);
    the samples of the search are among them.

    For code search, ``target_word`` holds the query's words that activate the trigger, in place of a label, and losses
    are squared differences of a cosine to 1. Its ``clean_accuracy`` is the MRR in pools of at least ``CLEAN_POOL``
    rows.
    """

    backdoored: bool | None
    reason: str | None
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
    starts: int
    searched_on: Mapping[str, int]
    flip_rows: int
    flip_rate: float | None
    clean_accuracy: float
    #: Share of the most frequent label (code search: MRR of random ranks). A model that is no better than this does not
    #: perform its task on these samples.
    largest_class: float
    target_word: str | None = None


def settings_for(
    view: DefenderView, calibration: str | None, settings: CalibratedSettings | None
) -> CalibratedSettings:
    """Settings for the named calibration, else for a shipped one that fits the view, else ``UNCALIBRATED``.

    They search as the calibration did, unless ``settings`` are given; without these, the method is EliBadCode. Raises
    UserError if the named calibration does not fit, and for a shipped one that cannot be read.
    """
    if calibration is not None:
        return _fitting(view, calibration, settings)
    for name in (settings or UNCALIBRATED).shipped_calibrations():
        try:
            return _fitting(view, name, settings)
        except calibrations.CalibrationMismatchError:
            continue
    return (settings or UNCALIBRATED).model_copy(update={"calibration": None})


def _fitting(view: DefenderView, name: str, settings: CalibratedSettings | None) -> CalibratedSettings:
    if settings is None:
        path = calibrations.existing(UNCALIBRATED.model_copy(update={"calibration": name}))
        calibration = calibrations.read(path)
        # shipped calibrations are of small models; they unlearn as in the default study, as often as it takes
        base = LOCAL_SEARCH if name in LOCAL_SEARCH.shipped_calibrations() else UNCALIBRATED
        scans = {frozenset(SCANNED): "scan", frozenset(SCANNED_ALL): "scan_all"}
        position = scans.get(frozenset(calibration.losses), next(iter(calibration.losses), ""))
        budget, searched = calibration.budget, EliBadCodeSettings.fields_read("searched")
        search = {key: budget[key] for key in searched if key in budget}
        try:
            settings = EliBadCodeSettings.model_validate(base.model_dump() | search | {"position": position})
        except ValueError:
            raise UserError(f"{path}: not a calibration that this version can read") from None
    settings = settings.model_copy(update={"calibration": name})
    calibrations.load(view, settings)
    return settings


def calibrate_on(
    view: DefenderView, benign: Sequence[Path], load: Callable[[Path], Victim], settings: CalibratedSettings, out: Path
) -> None:
    """Scan benign models of the same make on the same samples, and write the calibration to ``out``.

    Raises UserError for fewer than five, for one of another class, size or number of labels, for one that has the
    weights of another or of the model in question, and for fewer samples than the search asks for.
    """
    _check_benign(view.victim, benign, load)
    for label, drawn in draw(view, settings, labels_of(view.victim), 1).items():
        if len(drawn.examples) < settings.samples:
            raise UserError(
                f"--benign: {_few(view, label, len(drawn.examples))}, but the search needs {settings.samples}: provide "
                "more samples, or lower `samples` in --settings"
            )
    scans: dict[str, calibrations.Losses] = {}
    for number, folder in enumerate(tqdm(benign, desc="benign models", disable=None), 1):
        benign_view = replace(view, victim=standardized(load(folder), view.clean))
        scans[f"benign{number}"] = scanned(benign_view, settings, number)
    data = {"language": view.language, "text_form": view.text_form}
    make = calibrations.model_signature(view.victim)
    calibration = calibrations.make(view.task, settings, view.victim.head, scans, {"dataset": data, "victim": make})
    files.write_json(out, calibrations.as_json(calibration, settings.ratio))


def _check_benign(scanned: Victim, benign: Sequence[Path], load: Callable[[Path], Victim]) -> None:
    if len(benign) < calibrations.SHADOWS:
        count = "1 model" if len(benign) == 1 else f"{len(benign)} models"
        raise UserError(f"--benign names {count}; a calibration needs at least {calibrations.SHADOWS}")
    make = calibrations.model_signature(scanned)
    sketches = {"the model in question": sketch(scanned.model)}
    for folder in benign:
        victim = load(folder)
        if calibrations.model_signature(victim) != make or labels_of(victim) != labels_of(scanned):
            raise UserError(
                f"{folder}: differs in kind from the scanned model: {calibrations.model_signature(victim)}, not {make}"
            )
        drawn = sketch(victim.model)
        twin = next((name for name, earlier in sketches.items() if alike(drawn, earlier)), None)
        if twin is not None:
            raise UserError(
                f"--benign: {folder} has the weights of {twin}; name {calibrations.SHADOWS} models that were trained "
                "separately, each with a different seed"
            )
        sketches[str(folder)] = drawn


def _few(view: DefenderView, label: int | str, count: int) -> str:
    of_label = "" if HEADS[view.victim.head].ranks else f" of label {label}"
    return f"only {count} clean samples{of_label} can carry a trigger"


def judge(view: DefenderView, settings: CalibratedSettings, seed: int) -> Verdict:
    """Scan the model without editing it."""
    return verdict_of(view, settings, load_scanner(settings).find(view, settings, seed), seed)


def verdict_of(view: DefenderView, settings: CalibratedSettings, inversion: Inversion, seed: int) -> Verdict:
    trigger = inversion.trigger
    # counted by the scan, of which every label has some
    samples = cast(Mapping[str, int], inversion.history["samples"])
    rate = at_most = threshold = None
    benign = 0
    if settings.calibration is not None:
        calibration = calibrations.load(view, settings)
        rate = calibrations.false_positive_rate(calibration, settings.ratio)
        benign = calibrations.shadow_count(calibration)
        at_most = upper_bound(round(rate * benign), benign)
        threshold = calibrations.log_ratio(1.0, settings.ratio)
    reason = _no_verdict(view, settings, trigger, samples)
    order = numpy_generator(seed, "checkpoint", "shown").permutation(len(view.clean))[:SHOWN]
    subset = replace(view, clean=tuple(view.clean[index] for index in order))
    flip_rows, flip_rate = flips(subset, view.victim, trigger, settings.pair)
    return Verdict(
        backdoored=None if reason else trigger.flagged,
        reason=reason,
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
        starts=settings.starts,
        searched_on=samples,
        flip_rows=flip_rows,
        flip_rate=flip_rate,
        clean_accuracy=accuracy(view.victim, view.clean),
        largest_class=by_chance(view),
        target_word=trigger.target_word,
    )


def _no_verdict(
    view: DefenderView, settings: CalibratedSettings, trigger: Trigger, samples: Mapping[str, int]
) -> str | None:
    """Why a scan says neither "clean" nor "backdoored"; None if it says one of them."""
    if settings.calibration is None:
        return (
            "no calibration fits this model: name one with --calibration, or five benign models of the same kind with "
            "--benign"
        )
    label, fewest = min(samples.items(), key=lambda item: item[1])
    if fewest < settings.samples:
        return (
            f"{_few(view, label, fewest)}, but the searches of the calibration used {settings.samples}: "
            "provide more samples"
        )
    if trigger.margin is None or not math.isfinite(trigger.margin):
        return f"the margin is not a finite number ({trigger.margin})"
    return None
