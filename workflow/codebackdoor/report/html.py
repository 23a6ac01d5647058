"""One self-contained page of a finished run: tables, figures, data, costs, references, and limitations."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from codebackdoor.config.experiments import scenarios
from codebackdoor.config.products import inputs
from codebackdoor.errors import UserError
from codebackdoor.files import read_json
from codebackdoor.report import captions, labels, render, scan, sizes
from codebackdoor.report.collect import Cell, collect
from codebackdoor.report.doubts import doubts
from codebackdoor.report.limits import is_mined, limits
from codebackdoor.report.products import PRODUCTS
from codebackdoor.report.references import references
from codebackdoor.report.study import Study
from codebackdoor.report.tables import listing as listings
from codebackdoor.report.tables.results import ResultTable, build
from codebackdoor.report.thresholds import thresholds

_TEMPLATES = Path(__file__).parent / "templates"


def page(settings: Mapping[str, Any], archives: Sequence[Mapping[str, str]], commit: str | None) -> str:
    """Render the report of the run under ``settings["out"]``; a UserError names the first file that is missing.

    ``archives`` are the pinned distributions of the configuration; they are named where the study read any.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": labels.percent, "seconds": labels.seconds}
    out = Path(settings["out"])
    studies = [Study(settings, name) for name in settings["experiments"]]
    return environment.get_template("report.html.j2").render(
        out=str(out),
        commit=commit,
        experiments=[_experiment(study, out) for study in studies],
        limits=limits(studies),
        references=references(studies),
        datasets=[_dataset(name, out) for name in _datasets(studies)],
        archives=archives if is_mined(studies) else (),
        costs=_costs(_provenances(studies, out)),
        metrics=labels.METRICS,
        present=render.present,
        is_cell=lambda entry: isinstance(entry, Cell) and entry.value is not None,
        dash=labels.DASH,
        removed=scan.REMOVED,
    )


def _experiment(study: Study, out: Path) -> dict[str, Any]:
    experiment = study.experiment
    table: ResultTable | None = None
    if experiment.table:
        table = build(study, collect(study, _existing(inputs(experiment, "table", out))))
    return {
        "name": study.name,
        "title": experiment.title,
        "victims": sizes.sentence(study),
        "doubts": list(doubts(study)),
        "table": table,
        "caption": captions.caption(study, "table"),
        "notes": [*(table.notes if table else ()), *captions.stopped(study, "table")],
        "parameters": captions.parameters(study, "table"),
        "verdicts": list(scan.verdicts(study, out)),
        "thresholds": thresholds(study, out),
        "listings": [_listing(study, name, out) for name in experiment.tables],
        "figures": [_figure(study, name, out) for name in experiment.figures],
    }


def _listing(study: Study, name: str, out: Path) -> dict[str, Any]:
    listing = listings.build(study, name, _existing(inputs(study.experiment, name, out)))
    is_summary = PRODUCTS[name].is_summary
    return {"name": name, "listing": listing, "caption": captions.caption(study, name), "is_summary": is_summary}


def _figure(study: Study, name: str, out: Path) -> dict[str, Any]:
    (path,) = _existing([out / "results" / "figures" / f"{study.name}_{name}.png"])
    return {
        "name": name,
        "source": f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}",
        "caption": captions.caption(study, name),
        "parameters": captions.parameters(study, name),
    }


def _existing(paths: Sequence[Path]) -> Sequence[Path]:
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: not made yet; finish the run before its report (make run)")
    return paths


def _datasets(studies: Iterable[Study]) -> list[str]:
    """The data sets of these studies; the folder may also hold the cards of an earlier configuration."""
    return sorted({scenario.dataset for study in studies for scenario in scenarios(study.experiment)})


def _dataset(name: str, out: Path) -> dict[str, Any]:
    """The data set's card as pairs of a name and a value."""
    (path,) = _existing([out / "data" / name / "card.json"])
    return {"name": name, "facts": list(_flat(read_json(path)))}


def _flat(value: Any, prefix: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, nested in value.items():
            yield from _flat(nested, f"{prefix} › {key}" if prefix else str(key))
    elif isinstance(value, list):
        yield prefix, ", ".join(map(str, value))
    elif isinstance(value, float):
        yield prefix, f"{value:g}"
    else:
        yield prefix, str(value)


def _provenances(studies: Iterable[Study], out: Path) -> list[Path]:
    """The records of these studies' jobs; the folder may also hold those of an earlier configuration."""
    used = (scenario for study in studies for scenario in scenarios(study.experiment))
    folders = {folder for scenario in used for folder in scenario.folders(out)}
    return sorted(path for folder in folders if (path := folder / "provenance.json").is_file())


def _costs(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Number of jobs, seconds and largest memory of every stage, the most expensive first."""
    stages: dict[str, dict[str, Any]] = {}
    for path in paths:
        job = read_json(path)
        stage = stages.setdefault(job["stage"], {"stage": job["stage"], "jobs": 0, "seconds": 0.0, "peak_mb": 0.0})
        stage["jobs"] += 1
        stage["seconds"] += float(job["seconds"])
        stage["peak_mb"] = max(stage["peak_mb"], float(job["peak_mb"]))
    return sorted(stages.values(), key=lambda stage: (-stage["seconds"], stage["stage"]))
