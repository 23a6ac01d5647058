"""One self-contained page of a finished run: tables, figures, data, costs, and what all of it does not show."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from codebackdoor.config.experiments import Figure, Listing, scenarios
from codebackdoor.config.products import inputs
from codebackdoor.errors import UserError
from codebackdoor.files import read_json
from codebackdoor.report import captions, labels, listed, render, scan, sizes
from codebackdoor.report.collect import Cell, Study, collect
from codebackdoor.report.doubts import doubts
from codebackdoor.report.limits import is_mined, limits
from codebackdoor.report.tables import Table, build
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
    table: Table | None = None
    if experiment.table:
        table = build(study, collect(study, _there(inputs(experiment, "table", out))))
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
        "listings": [_listing(study, kind, out) for kind in experiment.tables],
        "figures": [_figure(study, kind, out) for kind in experiment.figures],
    }


def _listing(study: Study, kind: Listing, out: Path) -> dict[str, Any]:
    paths = _there(inputs(study.experiment, kind, out))
    return {"kind": kind, "listed": listed.build(study, kind, paths), "caption": captions.caption(study, kind)}


def _figure(study: Study, kind: Figure, out: Path) -> dict[str, Any]:
    (path,) = _there([out / "results" / "figures" / f"{study.name}_{kind}.png"])
    return {
        "kind": kind,
        "source": f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}",
        "caption": captions.caption(study, kind),
        "parameters": captions.parameters(study, kind),
    }


def _there(paths: Iterable[Path]) -> list[Path]:
    found = list(paths)
    for path in found:
        if not path.exists():
            raise UserError(f"{path}: not made yet; finish the run before its report (make run)")
    return found


def _datasets(studies: Iterable[Study]) -> list[str]:
    """Those that an experiment uses; a folder may hold the cards of an earlier configuration, too."""
    return sorted({scenario.dataset for study in studies for scenario in scenarios(study.experiment)})


def _dataset(name: str, out: Path) -> dict[str, Any]:
    """The data set's card as lines of (what, value)."""
    (path,) = _there([out / "data" / name / "card.json"])
    return {"name": name, "facts": list(_flat(read_json(path)))}


def _flat(value: Any, prefix: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _flat(below, f"{prefix} › {key}" if prefix else str(key))
    elif isinstance(value, list):
        yield prefix, ", ".join(map(str, value))
    elif isinstance(value, float):
        yield prefix, f"{value:g}"
    else:
        yield prefix, str(value)


def _provenances(studies: Iterable[Study], out: Path) -> list[Path]:
    """Of the jobs of these studies' scenarios; a folder may hold those of an earlier configuration, too."""
    folders = {folder for study in studies for one in scenarios(study.experiment) for folder in one.folders(out)}
    return sorted(path for folder in folders if (path := folder / "provenance.json").is_file())


def _costs(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Jobs, seconds and largest memory of every stage, the dearest first."""
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        facts = read_json(path)
        own = found.setdefault(facts["stage"], {"stage": facts["stage"], "jobs": 0, "seconds": 0.0, "peak_mb": 0.0})
        own["jobs"] += 1
        own["seconds"] += float(facts["seconds"])
        own["peak_mb"] = max(own["peak_mb"], float(facts["peak_mb"]))
    return sorted(found.values(), key=lambda own: (-own["seconds"], own["stage"]))
