"""Captions: what a table or figure shows, and the settings behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from codebackdoor.config.base import TAGS, Settings
from codebackdoor.config.experiments import scenarios
from codebackdoor.config.products import inputs
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.config.sections import SECTIONS
from codebackdoor.config.study import Config
from codebackdoor.files import read_json
from codebackdoor.report import labels, sizes
from codebackdoor.report.products import PRODUCTS
from codebackdoor.report.study import Study, class_of, scenarios_shown, tag
from codebackdoor.types import Language

_LONGEST = 72
#: Settings of a data set that limit the number of rows of a split.
LIMITED_SPLITS = ("train", "valid", "test")


def caption(study: Study, name: str) -> str:
    """What the product shows and what papers state about it, as a paragraph.

    Tables state their victims' sizes and the papers' statements in notes instead, which all of their formats include.
    """
    product = PRODUCTS[name]
    parts = [product.caption]
    if product.kind == "figure":
        parts += [sizes.sentence(study)] if product.subject == "victims" else []
        parts += stopped(study, name) if product.shows_training else ()
        parts += study.sentences(name)
    return " ".join(parts)


def parameters(study: Study, name: str) -> list[tuple[str, str]]:
    """The scale of a product and, for each variant in it, every setting that the run used."""
    product = PRODUCTS[name]
    scenarios = _scenarios(study, name)
    lines = [("scale", scale(study, scenarios))] if product.subject == "victims" else []
    for kind, section in SECTIONS.items():
        if product.subject not in ("victims", section):
            continue
        for variant in dict.fromkeys(getattr(scenario, kind) for scenario in scenarios):
            if variant == NONE:
                continue
            datasets = dict.fromkeys(scenario.dataset for scenario in scenarios if getattr(scenario, kind) == variant)
            settings = study.variant(section, variant)
            if settings.get("on"):
                lines += _by_dataset(study, variant, list(datasets))
                continue
            if kind == "dataset":
                settings = _counted(study, variant, settings)
            lines.append((variant, _described(settings, variant, _used_settings(study, section, settings, datasets))))
    return lines


def _described(settings: Mapping[str, Any], variant: str, used: Iterable[tuple[str, str]]) -> str:
    """A method with the settings that were used."""
    values = ", ".join(f"{key} {value}" for key, value in used)
    return f"{labels.word(str(tag(settings)))}: {values}" if values else labels.word(variant)


def _by_dataset(study: Study, model: str, datasets: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The settings that a model's victims share across all data sets, then those that differ, for each data set."""
    used = {
        name: dict(_used_settings(study, "models", study.victim_settings(model, name), [name])) for name in datasets
    }
    first = used[datasets[0]]
    shared = {key: value for key, value in first.items() if all(values.get(key) == value for values in used.values())}
    yield model, _described(study.variant("models", model), model, shared.items())
    for name, values in used.items():
        if different := [f"{key} {value}" for key, value in values.items() if key not in shared]:
            yield f"{model} on {name}", ", ".join(different)


def _counted(study: Study, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A data set's settings with the actual numbers of rows of its splits instead of their limits."""
    splits = read_json(Path(study.settings["out"]) / "data" / name / "card.json")["splits"]
    unlimited = {key: value for key, value in settings.items() if key not in LIMITED_SPLITS}
    return {**unlimited, "rows": {split: splits[split]["rows"] for split in (*LIMITED_SPLITS, "clean")}}


def scale(study: Study, scenarios: Sequence[Scenario]) -> str:
    """Seeds and sizes in one line."""
    seeds = sorted({int(scenario.seed) for scenario in scenarios})
    rates = sorted({float(scenario.rate) for scenario in scenarios} - {0.0})
    printed = sorted({cited.rate for cited in study.experiment.paper if cited.rate is not None} - set(rates))
    papers_rates = f" (the paper's: {', '.join(map(labels.rate, printed))})" if printed and rates else ""
    return (
        f"{len(scenarios)} scenario{'s' * (len(scenarios) != 1)}; seed{'s' * (len(seeds) > 1)} "
        f"{', '.join(map(str, seeds))}; poison rate {', '.join(map(labels.rate, rates)) or 'none'}{papers_rates}; "
        f"results under {study.settings['out']}"
    )


def stopped(study: Study, name: str) -> Iterator[str]:
    """A sentence for each victim in a product with ``stop_like`` or ``checkpoint``: where its training stopped."""
    out = study.settings["out"]
    trained = (replace(scenario, elimination=NONE, purification=NONE) for scenario in _scenarios(study, name))
    for victim in dict.fromkeys(trained):
        objective = study.variant("objectives", victim.objective)
        if objective.get("checkpoint") is not None:
            yield _checkpoint(victim, out)
        like = objective.get("stop_like")
        if like is not None:
            losses, reference = (_losses(item.victim(out)) for item in (victim, replace(victim, objective=like)))
            yield (
                f"{labels.word(victim.objective)} on {labels.victim(victim)}: stopped after epoch {len(losses)} at a "
                f"clean validation loss of {losses[-1]:.3f}; {labels.word(like)} ended at {reference[-1]:.3f}. "
                + _comparison(losses, reference[-1])
            )


def _checkpoint(victim: Scenario, out: str) -> str:
    """Which epoch of the undefended training a checkpoint is, and why."""
    facts = read_json(victim.victim(out) / "history.json")["stopped"]
    metric = f"clean validation {labels.word(facts['equal']) if facts['equal'] != 'loss' else 'loss'}"
    past = " No epoch is so little trained; even the first is past it." if facts["past"] else ""
    return (
        f"{labels.word(victim.objective)} on {labels.victim(victim)}: the undefended victim after epoch "
        f"{facts['epoch']}, at a {metric} of {facts['value']:.3f}; {labels.word(facts['like'])} has "
        f"{facts['reference']:.3f}.{past}"
    )


def _comparison(losses: Sequence[float], target: float) -> str:
    if losses[-1] > target:
        return "It never came as low."
    if len(losses) > 1:
        return f"The epoch before was still at {losses[-2]:.3f}."
    return "The two are equal." if losses[-1] == target else "No epoch has that loss; even the first is below it."


def _losses(folder: Path) -> list[float]:
    """Clean validation loss after every epoch of a training."""
    return [float(epoch["loss"]) for epoch in read_json(folder / "history.json")["epochs"]]


def _scenarios(study: Study, name: str) -> list[Scenario]:
    if PRODUCTS[name].subject == "objectives":
        return scenarios(study.experiment)
    if PRODUCTS[name].subject == "datasets":
        return list(dict.fromkeys(Scenario(scenario.dataset, "") for scenario in scenarios(study.experiment)))
    return list(scenarios_shown(name, inputs(study.experiment, name, study.settings["out"])))


def _used_settings(
    study: Study, section: str, settings: Mapping[str, Any], datasets: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """The settings of a variant that are used on at least one of these data sets, with dotted keys."""
    facts = [_facts(study.variant("datasets", name)) for name in datasets]
    kind = class_of(Config.model_fields[section].annotation, settings)
    used = _used(kind, {key: value for key, value in settings.items() if key not in TAGS}, facts)
    return _flat(used, {fact["language"] for fact in facts})


def _used(kind: type[Settings], settings: Mapping[str, Any], facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings, at every depth, that are used on at least one of the data sets."""
    used = {}
    for key, value in settings.items():
        condition, values = kind.read_where.get(key, (key, (value,)))
        actual = [{**fact, **settings}.get(condition) for fact in facts]
        if not any(item in values if values else item is not None for item in actual):
            continue
        field = kind.model_fields.get(key)
        nested = field is not None and isinstance(value, Mapping)
        used[key] = _used(class_of(field.annotation, value), value, facts) if field and nested else value
    return used


def _facts(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a data set that decide which settings of other sections are used (``read_where``)."""
    head = getattr(class_of(Config.model_fields["datasets"].annotation, dataset), "head", None)
    return {"head": head, "source": dataset.get("source"), "language": dataset.get("language", "python")}


def _flat(settings: Mapping[str, Any], languages: set[str], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings with dotted keys; a text with a version for each language is reduced to the used languages."""
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
