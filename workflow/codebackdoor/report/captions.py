"""Captions: what a table or figure shows, and the parameters that it was made with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from codebackdoor.config.base import TAGS, Settings, models_in, tag_of
from codebackdoor.config.experiments import Listing
from codebackdoor.config.experiments import scenarios as planned
from codebackdoor.config.products import Product, inputs
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.config.study import SECTIONS, Config
from codebackdoor.files import read_json
from codebackdoor.report import labels, sizes
from codebackdoor.report.collect import Study
from codebackdoor.report.shown import shown
from codebackdoor.report.stated import stated
from codebackdoor.types import Language

_SHOWN: Mapping[Product, str] = {
    "table": "Every defense on every victim; the benign and the undefended victim always have a column.",
    "defenses": "Flip rate, ASR against its floor, and the clean metric of each defense, with the intervals of the "
    "table. A good defense has a flip rate near zero and an ASR near its floor; an ASR far below the floor means that "
    "the defense taught the opposite backdoor.",
    "inversion": "Loss of the searched trigger over the iterations, towards each label. Solid: the trigger stands at "
    "the least sensitive identifier of each sample (position identification); dashed: at the function's name, "
    "which is where an attack on function names puts its own; dash-dotted: as the first statement of the body. Each "
    "curve is that of the current trigger of the best of "
    "all starts, so that it may rise where the search moves on from its best (keep_current no); the verdict uses the "
    "lowest loss of the way, while the table of the label scan gives the loss after anchoring.",
    "epochs": "Clean metric and ASR on the validation split after every epoch, for each training loss.",
    "suspicion": "Left and middle: suspicion scores of one input with the trigger and without it; the input is the "
    "triggered one of median entropy. Right: entropies of all inputs and the threshold. All of the first seed.",
    "overview": "Every defense on every attacked victim at a glance.",
    "ordering": "Where the defenses stand in another order than in the paper, with the reason as far as it is known.",
    "detection": "Whether the label scan tells benign victims from backdoored ones.",
    "inverted_triggers": "How near the inverted triggers come to the factual ones.",
    "times": "Where the time of a defense goes. Of all tables the only one that differs from run to run.",
    "seeds": "Every defense on every attacked victim: mean and range over the seeds, and what is left of the backdoor "
    "on each seed.",
    "significance": "Whether one defense is better than the others over all victims together.",
    "position": "Left: one sample, with the factual trigger and with a perturbation that a search found for this "
    "sample at its first identifier, put in place of each of its identifiers: probability of the target (lines), and "
    "how much the loss of the true label changes when the identifier is masked (bars). Right: means over all samples, "
    "by the rank of that change; 1 is the most sensitive identifier. A backdoor works wherever its trigger stands, a "
    "perturbation where it was made for.",
    "identifiers": "Left: how many identifiers a sample has, that is places for a trigger. Right: how many sub-tokens "
    "an identifier has; the line is the share of those that are no longer. The paper's triggers have five, which "
    "covers over 90 % of its identifiers.",
    "sensitivity": "Steps until the trigger's loss towards the target label first falls below 0.1 nats, by where the "
    "trigger stands: at the identifier of that rank of sensitivity, 0 the least sensitive, -1 the most. Hatched bars: "
    "not within the iterations.",
    "tokens": "Change of the loss towards the inverted label when one piece of the inverted trigger is left out, of "
    "every flagged victim: pieces of the text that the attack writes into names (of BadCode with its underscore), as "
    "the victim reads it or longer, and others, which are noise. Dashed: beta, above which anchoring keeps a piece.",
    "sweep": "Each point is one variant of the defense, named by its setting; bars are the intervals of the table. "
    "Dotted: the floor of the ASR.",
    "layers": "Unlearning that updates all parameters beside unlearning that updates the last layer alone, and the "
    "undefended victim. Ticks: the floor of the ASR.",
    "convergence": "Loss of the current trigger towards the target label, best of all starts, at the place that the "
    "defense found best; marks: the first step below 0.1 nats. Dashed: steps after which the paper's search was there, "
    "with its position identification and without.",
    "noise": "Accuracy on all clean test rows, and on those that hold a noise token: a piece of the inverted trigger "
    "that anchoring dropped or would drop. Diamonds: the paper's, without anchoring. Bars are 95 % intervals of "
    "Wilson.",
}
_LONGEST = 72
#: Settings of a data set that say how many rows a split has at most.
SPLITS = ("train", "valid", "test")


def caption(study: Study, product: Product) -> str:
    """What the product shows, and what the paper states about it, as a paragraph."""
    more = stopped(study, product) if product == "epochs" else ()
    # a table has these in its notes, which are in all of its forms, and a figure of the data alone has no victim
    victims = () if product in ("table", "identifiers", *get_args(Listing)) else (sizes.sentence(study),)
    said = () if product == "table" else stated(study, product)
    return " ".join((_SHOWN[product], *victims, *more, *said))


def parameters(study: Study, product: Product) -> list[tuple[str, str]]:
    """The scale of what a product shows and, for each variant in it, every setting that was read there."""
    scenarios = _scenarios(study, product)
    found = [] if product == "identifiers" else [("scale", scale(study, scenarios))]
    # a figure of the data has no more to it
    for kind, section in [("dataset", "datasets")] if product == "identifiers" else SECTIONS.items():
        for name in dict.fromkeys(getattr(one, kind) for one in scenarios):
            if name == NONE:
                continue
            datasets = dict.fromkeys(one.dataset for one in scenarios if getattr(one, kind) == name)
            settings = study.variant(section, name)
            if kind == "dataset":
                settings = _counted(study, name, settings)
            values = ", ".join(f"{key} {value}" for key, value in _read(study, section, settings, datasets))
            found.append((name, f"{labels.word(str(_kind(settings)))}: {values}" if values else labels.word(name)))
    return found


def _counted(study: Study, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A data set's settings with the rows that its splits have, instead of how many were to be there at most."""
    splits = read_json(Path(study.settings["out"]) / "data" / name / "card.json")["splits"]
    kept = {key: value for key, value in settings.items() if key not in SPLITS}
    return {**kept, "rows": {split: splits[split]["rows"] for split in (*SPLITS, "clean")}}


def scale(study: Study, scenarios: Sequence[Scenario]) -> str:
    """Seeds and sizes in one line."""
    seeds = sorted({int(one.seed) for one in scenarios})
    rates = sorted({float(one.rate) for one in scenarios} - {0.0})
    theirs = sorted({wanted.rate for wanted in study.experiment.paper if wanted.rate is not None} - set(rates))
    beside = f" (the paper's: {', '.join(map(labels.rate, theirs))})" if theirs and rates else ""
    return (
        f"{len(scenarios)} scenario{'s' * (len(scenarios) != 1)}; seed{'s' * (len(seeds) > 1)} "
        f"{', '.join(map(str, seeds))}; poison rate {', '.join(map(labels.rate, rates)) or 'none'}{beside}; "
        f"results under {study.settings['out']}"
    )


def stopped(study: Study, product: Product) -> Iterator[str]:
    """For each victim in a product that was to train no longer than another one (``stop_like``): where it stopped."""
    out = study.settings["out"]
    trained = (replace(one, elimination=NONE, purification=NONE) for one in _scenarios(study, product))
    for victim in dict.fromkeys(trained):
        like = study.variant("objectives", victim.objective).get("stop_like")
        if like is not None:
            losses, others = (_losses(one.victim(out)) for one in (victim, replace(victim, objective=like)))
            yield (
                f"{labels.word(victim.objective)} on {labels.victim(victim)}: stopped after epoch {len(losses)} at a "
                f"clean validation loss of {losses[-1]:.3f}; {labels.word(like)} ended at {others[-1]:.3f}. "
                + _comparison(losses, others[-1])
            )


def _comparison(losses: Sequence[float], wanted: float) -> str:
    if losses[-1] > wanted:
        return "It never came as low."
    if len(losses) > 1:
        return f"The epoch before was still at {losses[-2]:.3f}."
    return "The two are equal." if losses[-1] == wanted else "No epoch is equal: the first is lower already."


def _losses(folder: Path) -> list[float]:
    """Clean validation loss after every epoch of a training."""
    return [float(epoch["loss"]) for epoch in read_json(folder / "history.json")["epochs"]]


def _scenarios(study: Study, product: Product) -> list[Scenario]:
    if product == "identifiers":
        return list(dict.fromkeys(Scenario(one.dataset, "") for one in planned(study.experiment)))
    return shown(product, inputs(study.experiment, product, study.settings["out"]))


def _read(
    study: Study, section: str, settings: Mapping[str, Any], datasets: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """The settings of a variant that are read on at least one of these data sets."""
    facts = [_facts(study.variant("datasets", name)) for name in datasets]
    kind = _class(Config.model_fields[section].annotation, settings)
    kept = _kept(kind, {key: value for key, value in settings.items() if key not in TAGS}, facts)
    return _flat(kept, {own["language"] for own in facts})


def _kept(kind: type[Settings], settings: Mapping[str, Any], facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Those of settings, and of settings in them, that one of the data sets has a use for."""
    kept = {}
    for key, value in settings.items():
        other, wanted = kind.read_where.get(key, (key, (value,)))
        found = [{**own, **settings}.get(other) for own in facts]
        if not any(one in wanted if wanted else one is not None for one in found):
            continue
        field = kind.model_fields.get(key)
        inner = field is not None and isinstance(value, Mapping)
        kept[key] = _kept(_class(field.annotation, value), value, facts) if field and inner else value
    return kept


def _facts(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """What of a data set decides which settings of other kinds are read."""
    head = getattr(_class(Config.model_fields["datasets"].annotation, dataset), "head", None)
    return {"head": head, "source": dataset.get("source"), "language": dataset.get("language", "python")}


def _class(annotation: Any, settings: Mapping[str, Any]) -> type[Settings]:
    """The class among those of a field that these settings are of; that of all methods where there is none."""
    known = (model for model in models_in(annotation) if issubclass(model, Settings))
    return next((model for model in known if (tag_of(model) or "") == _kind(settings)), Settings)


def _kind(settings: Mapping[str, Any]) -> object:
    return next((settings[key] for key in TAGS if key in settings), "")


def _flat(settings: Mapping[str, Any], languages: set[str], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings below each other as dotted keys; of a text in several languages only those that are used."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and set(value) <= set(get_args(Language)):
            value = {language: text for language, text in value.items() if language in languages}
            value = next(iter(value.values())) if len(value) == 1 else value
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
