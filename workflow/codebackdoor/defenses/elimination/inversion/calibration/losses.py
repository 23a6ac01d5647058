"""The losses of benign victims in a label scan, and a rule that uses them to say "clean" (EliBadCode, line 44).

EliBadCode's paper cites the median absolute deviation over labels, which is meaningless for two labels; its code always
flags the label with the lowest loss, so that no victim is "clean". Here a label is an outlier if its inverted loss is
at most ``ratio`` times the lowest loss that the same search reached for that label and position on any of at least five
benign *shadow* victims, whose training seeds differ from those of every reported victim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codebackdoor.config.base import Head
from codebackdoor.defenses.elimination.inversion.calibration.settings import CalibratedSettings
from codebackdoor.defenses.elimination.inversion.samples import labels_of
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError, nearest
from codebackdoor.files import read_json
from codebackdoor.heads import HEADS
from codebackdoor.victims.temperature import SPREAD
from codebackdoor.victims.victim import Victim

SHADOWS = 5
#: What to do about a calibration that does not fit.
REMEDY = (
    "create a calibration from five benign models of the same kind with `codebackdoor scan --benign`; in a study, set "
    "`calibration` to OUT/calibration/DATASET/MODEL/ELIMINATION.json"
)

#: Facts of a victim's configuration that a calibration is tied to, besides its pooling.
MAKE = ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")

#: Inverted losses by position, then by label (as text, since they travel through JSON).
Losses = Mapping[str, Mapping[str, float]]


class CalibrationMismatchError(UserError):
    """A readable calibration was made for another task, data set, kind of victim or search."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Losses of the shadows by position and label, with the task, the search budget and where they come from."""

    task: str
    budget: Mapping[str, object]
    losses: Mapping[str, Mapping[str, tuple[float, ...]]]
    provenance: Mapping[str, object]

    def margin(self, position: str, label: int, loss: float) -> float:
        """log(lowest loss of a shadow / loss): above -log(ratio) the label is an outlier."""
        return log_ratio(min(self.losses[position][str(label)]), loss)


def log_ratio(reference: float, loss: float) -> float:
    # a loss of exactly 0 is beyond float32's reach for -log p, not infinitely better
    return math.log(max(reference, 1e-12) / max(loss, 1e-12))


def budget(settings: CalibratedSettings, head: Head) -> dict[str, object]:
    """The settings that an inverted loss depends on and that a victim with this head reads."""
    unit: dict[str, object] = {} if HEADS[head].ranks else {"spread": SPREAD}
    return settings.searched_by(head) | unit


def model_signature(victim: Victim) -> dict[str, object]:
    """A victim's class, size and pooling: a trigger affects the maximum over all states differently than the first."""
    return {name: getattr(victim.model.config, name) for name in MAKE} | {"pooling": victim.pooling}


def make(
    task: str, settings: CalibratedSettings, head: Head, shadows: Mapping[str, Losses], provenance: Mapping[str, object]
) -> Calibration:
    """Collect the scans of named benign victims.

    Raises UserError for fewer than five shadows, or where they were not scanned over the same positions and labels.
    """
    if len(shadows) < SHADOWS:
        raise UserError(f"a calibration needs at least {SHADOWS} benign shadow victims, not {len(shadows)}")
    scans = list(shadows.values())
    keys = {position: sorted(by_label) for position, by_label in scans[0].items()}
    for name, scan in shadows.items():
        if {position: sorted(by_label) for position, by_label in scan.items()} != keys:
            raise UserError(f"shadow {name} was not scanned over the same positions and labels as the others")
    losses = {
        position: {label: [scan[position][label] for scan in scans] for label in labels}
        for position, labels in keys.items()
    }
    return Calibration(
        task=task,
        budget=budget(settings, head),
        losses=_checked(losses, "a calibration"),
        provenance={**provenance, "shadows": sorted(shadows)},
    )


def false_positive_rate(calibration: Calibration, ratio: float) -> float:
    """The share of shadows that the other shadows would flag for some position and label (leave one out)."""
    flagged: set[int] = set()
    for by_label in calibration.losses.values():
        for values in by_label.values():
            lowest, second = sorted(values)[:2]
            # only the lowest is below all others, unless two are equally low
            if lowest <= ratio * second:
                flagged.update(index for index, value in enumerate(values) if value == lowest)
    return len(flagged) / shadow_count(calibration)


def shadow_count(calibration: Calibration) -> int:
    """How many benign victims a calibration rests on."""
    return len(next(iter(next(iter(calibration.losses.values())).values())))


def as_json(calibration: Calibration, ratio: float) -> dict[str, object]:
    return {
        "task": calibration.task,
        "budget": dict(calibration.budget),
        "losses": {
            position: {label: list(values) for label, values in by_label.items()}
            for position, by_label in calibration.losses.items()
        },
        "provenance": dict(calibration.provenance),
        "leave_one_out": {"ratio": ratio, "false_positive_rate": false_positive_rate(calibration, ratio)},
    }


def existing(settings: CalibratedSettings) -> Path:
    """The file of the calibration that settings name, shipped or the user's; UserError if there is none."""
    path = settings.calibration_file
    if path is None or not path.exists():
        hint = nearest(str(settings.calibration), settings.shipped_calibrations())
        raise UserError(f"calibration {settings.calibration!r} is neither shipped nor a file{hint}")
    return path


def load(view: DefenderView, settings: CalibratedSettings) -> Calibration:
    """Read the calibration that settings name, and check that it fits this scan.

    It holds only the losses of the scanned positions, although the file may have others. Raises
    CalibrationMismatchError if it does not fit, and UserError if the file cannot be used at all.
    """
    path = existing(settings)
    calibration = read(path)
    if calibration.task != view.task:
        raise CalibrationMismatchError(f"{path}: made for task {calibration.task!r}, not {view.task!r}")
    dataset, victim = (calibration.provenance.get(key) for key in ("dataset", "victim"))
    if not (isinstance(dataset, Mapping) and isinstance(victim, Mapping)):
        raise UserError(f"{path}: does not say on which data set and victims it was made; {REMEDY}")
    for key, value in (("language", view.language), ("text_form", view.text_form)):
        if dataset.get(key) != value:
            raise CalibrationMismatchError(
                f"{path}: made on a data set of {key}: {dataset.get(key)}, not {value}; {REMEDY}"
            )
    signature = model_signature(view.victim)
    if dict(victim) != signature:
        raise CalibrationMismatchError(
            f"{path}: made on victims with {dict(victim)}, and this one has {signature}; {REMEDY}"
        )
    recorded = settings.completed(calibration.budget)
    for key, required in settings.completed(budget(settings, view.victim.head)).items():
        if recorded.get(key) != required:
            raise CalibrationMismatchError(
                f"{path}: made with {key}: {recorded.get(key)}, but this scan has {key}: {required}; its losses do not "
                f"compare. Use the same value, or {REMEDY}"
            )
    for position in settings.positions:
        missing = [label for label in labels_of(view.victim) if str(label) not in calibration.losses.get(position, {})]
        if missing:
            raise CalibrationMismatchError(
                f"{path}: no losses for position {position!r} and labels {missing}; {REMEDY}"
            )
    return replace(calibration, losses={position: calibration.losses[position] for position in settings.positions})


def read(path: Path) -> Calibration:
    """Read a calibration; UserError for a file that is not one, or whose losses allow no comparison."""
    content: Any = read_json(path)
    try:
        task, measured = content["task"], dict(content["budget"])
        losses, provenance = content["losses"], dict(content["provenance"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a calibration ({error!r})") from None
    return Calibration(str(task), measured, _checked(losses, str(path)), provenance)


def check_replaceable(path: Path) -> None:
    """Raise UserError if a file that is to be overwritten is something other than a calibration."""
    try:
        read(path)
    except UserError:
        raise UserError(f"{path}: exists and is not a calibration; name a new file") from None


def _checked(losses: object, where: str) -> dict[str, dict[str, tuple[float, ...]]]:
    """Check the losses: finite numbers above 0, of the same number (at least five) of shadows for every position and
    label. Compared with a NaN, any model would be "clean"."""
    if not (isinstance(losses, Mapping) and losses):
        raise UserError(f"{where}: not a calibration (no losses by position and label)")
    checked: dict[str, dict[str, tuple[float, ...]]] = {}
    for position, by_label in losses.items():
        if not (isinstance(by_label, Mapping) and by_label):
            raise UserError(f"{where}: not a calibration (no losses by label at position {position!r})")
        checked[position] = {}
        for label, values in by_label.items():
            at = f"{where}: losses of label {label!r} at position {position!r}"
            if not (isinstance(values, Sequence) and len(values) >= SHADOWS):
                raise UserError(f"{at}: a list of at least {SHADOWS} numbers is needed, one of each benign model")
            for value in values:
                number = isinstance(value, int | float) and not isinstance(value, bool)
                if not (number and 0 < value < math.inf):
                    raise UserError(f"{at}: {value!r} is not a finite number above 0")
            checked[position][label] = tuple(map(float, values))
    counts = sorted({len(values) for by_label in checked.values() for values in by_label.values()})
    if len(counts) > 1:
        listed = ", ".join(map(str, counts))
        raise UserError(f"{where}: losses of {listed} models; every position and label needs those of the same models")
    return checked
