"""Captions: what a table or figure shows, and the parameters that it was made with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

from codebackdoor.config.experiments import Figure, scenarios
from codebackdoor.report import labels
from codebackdoor.report.collect import Study, subset
from codebackdoor.types import Language

Product = Literal["table"] | Figure

SHOWN: Mapping[str, str] = {
    "table": "Every defense on every victim; the benign and the undefended victim always have a column.",
    "defenses": "Flip rate, ASR against its floor, and the clean metric of each defense, with 95 % intervals. A good "
    "defense has a flip rate near zero and an ASR near its floor; an ASR far below the floor means that the defense "
    "taught the opposite backdoor.",
    "inversion": "Loss of the searched trigger over the iterations, towards each label. Solid: the trigger stands at "
    "the least sensitive identifier of each sample (position identification); dashed: at the function's name, "
    "which is where an attack on function names puts its own.",
    "epochs": "Clean metric and ASR on the validation split after every epoch, for each training loss.",
    "suspicion": "Left and middle: suspicion scores of one input with the trigger and without it; the input is the "
    "triggered one of median entropy. Right: entropies of all inputs and the calibrated threshold.",
}
#: Sections of the settings that decide what a product shows, beside the data sets and models.
_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "table": ("attacks", "filterings", "objectives", "eliminations", "purifications"),
    "defenses": ("attacks", "filterings", "objectives", "eliminations", "purifications"),
    "inversion": ("attacks", "eliminations"),
    "epochs": ("attacks", "objectives"),
    "suspicion": ("attacks", "objectives", "purifications"),
}
_LONGEST = 72


def parameters(study: Study, product: Product) -> list[tuple[str, str]]:
    """For each variant behind a product: its name, and every setting that it ran with."""
    used = subset(study.settings, study.name)
    languages = {str(one.get("language", "python")) for one in used["datasets"].values()}
    found = [("scale", scale(study))]
    for section in ("datasets", "models", *_SECTIONS[product]):
        for name, settings in used[section].items():
            values = ", ".join(f"{key} {value}" for key, value in _flat(settings, languages))
            found.append((name, f"{labels.word(str(_kind(settings)))}: {values}" if values else labels.word(name)))
    return found


def scale(study: Study) -> str:
    """Seeds and sizes in one line."""
    held = scenarios(study.experiment)
    seeds = sorted({int(one.seed) for one in held})
    rates = sorted({float(one.rate) for one in held} - {0.0})
    return (
        f"{len(held)} scenarios; seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}; poison rate "
        f"{', '.join(map(labels.rate, rates)) or 'none'}; results under {study.settings['out']}"
    )


def as_text(settings: Mapping[str, Any], name: str, product: Product) -> str:
    """The whole caption as plain text, one paragraph."""
    study = Study(settings, name)
    used = "; ".join(f"{what}: {values}" for what, values in parameters(study, product))
    return f"{study.experiment.title}. {SHOWN[product]} Parameters: {used}."


def _kind(settings: Mapping[str, Any]) -> object:
    return next((settings[key] for key in ("method", "task", "architecture") if key in settings), "")


def _flat(settings: Mapping[str, Any], languages: set[str], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings below each other as dotted keys; of a text in several languages only those that are used."""
    for key, value in settings.items():
        if value is None or (not prefix and key in ("method", "task", "architecture")):
            continue
        if isinstance(value, Mapping) and set(value) <= set(get_args(Language)):
            value = next((text for language, text in value.items() if language in languages), None)
        if isinstance(value, Mapping):
            yield from _flat(value, languages, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(map(_plain, value)) + ")"
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
