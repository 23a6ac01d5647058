"""One self-contained page of a finished run: findings, tables, figures, data, costs, references, and limitations."""

from __future__ import annotations

import base64
import os.path
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from codebackdoor.config.experiments import defenses, scenarios
from codebackdoor.config.products import inputs
from codebackdoor.errors import UserError
from codebackdoor.report import captions, labels, records, render, scan, sizes
from codebackdoor.report.collect import Cell, collect
from codebackdoor.report.datasets import COUNTED_SPLITS, datasets
from codebackdoor.report.doubts import doubts
from codebackdoor.report.findings import findings
from codebackdoor.report.headline import headline
from codebackdoor.report.limits import is_mined, limits
from codebackdoor.report.products import PRODUCTS, TEMPLATES
from codebackdoor.report.references import references
from codebackdoor.report.study import Study
from codebackdoor.report.tables import listing as listings
from codebackdoor.report.tables.results import ResultTable, build
from codebackdoor.report.thresholds import thresholds

#: The XPath of the description in an SVG.
_DESCRIPTION = ".//{http://purl.org/dc/elements/1.1/}description"
#: Files and folders of a run that the page links to, if they exist.
_LINKS = {"All metrics (CSV)": "results/metrics.csv", "Tables": "results/tables", "Logs": "logs"}


def environment() -> Environment:
    """The templates' environment: all text is escaped, and an undefined name is an error."""
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"percent": labels.percent, "rate": labels.rate, "seconds": labels.seconds}
    return templates


def page(
    settings: Mapping[str, Any], archives: Sequence[Mapping[str, str]], commit: str | None, command: str | None = None
) -> str:
    """Render the report of the run under ``settings["out"]``; a UserError names the first missing file.

    ``archives`` are the configuration's pinned distributions, which are listed if the study used any.
    ``command`` reproduces the run and the report.
    """
    out = Path(settings["out"])
    studies = [Study(settings, name) for name in settings["experiments"]]
    experiments = [_experiment(study, out) for study in studies]
    # the first experiment with a defense; without any, the first one
    has_defense = [any(map(defenses, scenarios(study.experiment))) for study in studies]
    lead = has_defense.index(True) if True in has_defense else 0
    jobs = records.jobs(studies, out)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            out=str(out),
            commit=commit,
            command=command,
            run=records.facts(jobs),
            links={name: path for name, path in _LINKS.items() if (out / path).exists()},
            findings=findings(studies),
            headline=_headline(studies[lead], experiments[lead]) if studies else None,
            lead=lead,
            experiments=experiments,
            limits=limits(studies),
            references=references(studies),
            datasets=datasets(studies, out),
            splits=COUNTED_SPLITS,
            archives=archives if is_mined(studies) else (),
            costs=records.costs(jobs),
            metrics=labels.METRICS,
            meanings=meanings(),
            present=render.present,
            word=labels.word,
            is_cell=lambda entry: isinstance(entry, Cell) and entry.value is not None,
            dash=labels.DASH,
            open_tables=_OPEN_TABLES,
            removed=scan.REMOVED,
        )
    )


#: Maximum number of tables of an experiment's victims that are not folded.
_OPEN_TABLES = 6
#: Metrics that are explained at the top of a page.
_EXPLAINED = ("asr", "floor", "flip_rate", "trigger_effect")


def meanings() -> dict[str, str]:
    """What a reader needs to understand the numbers, by name."""
    explained = {labels.METRICS[name]: meaning for name, (_, meaning) in render.SHORT.items() if name in _EXPLAINED}
    absent = (
        f"no value, because it is undefined ({labels.NO_FLIP_RATE}) or the defense does not apply; what was not "
        "measured has an empty cell"
    )
    return {**explained, labels.DASH: absent}


def _headline(study: Study, experiment: dict[str, Any]) -> dict[str, Any]:
    """An experiment at a glance: its own summary if it has one, else every attack and defense."""
    summaries = [entry for entry in experiment["listings"] if entry["is_summary"]]
    table = experiment["table"]
    parts = [] if summaries or table is None else headline(study, table)
    return {"title": experiment["title"], "parts": parts, "summaries": summaries, "seeds": table.seeds if table else 1}


def _experiment(study: Study, out: Path) -> dict[str, Any]:
    experiment = study.experiment
    table: ResultTable | None = None
    if experiment.table:
        table = build(study, collect(study, existing(inputs(experiment, "table", out))))
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
        "listings": [listing(study, name, out) for name in experiment.tables],
        "figures": [figure(study, name, out) for name in experiment.figures],
        "webpages": [webpage(study, name, out) for name in experiment.pages],
    }


def listing(study: Study, name: str, out: Path) -> dict[str, Any]:
    """A further table of an experiment of the run under ``out``, as the templates show it."""
    built = listings.build(study, name, existing(inputs(study.experiment, name, out)))
    is_summary = PRODUCTS[name].is_summary
    return {"name": name, "listing": built, "caption": captions.caption(study, name), "is_summary": is_summary}


def figure(study: Study, name: str, out: Path) -> dict[str, Any]:
    """The figure, its description in words, and the path of its version for papers."""
    (path,) = existing([out / "results" / "figures" / f"{study.name}_{name}.svg"])
    content, pdf = path.read_bytes(), path.with_suffix(".pdf")
    return {
        "name": name,
        "source": f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}",
        "shows": ElementTree.fromstring(content).findtext(_DESCRIPTION, default=""),
        "pdf": os.path.relpath(pdf, out) if pdf.exists() else None,
        "caption": captions.caption(study, name),
    }


def webpage(study: Study, name: str, out: Path) -> dict[str, Any]:
    """The path and the caption of a page."""
    (path,) = existing([out / "results" / "pages" / f"{study.name}.{name}.html"])
    return {"path": os.path.relpath(path, out), "caption": captions.caption(study, name)}


def existing(paths: Sequence[Path]) -> Sequence[Path]:
    """The same paths; raises UserError for the first one that does not exist."""
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: not made yet; finish the run before its report (make run)")
    return paths
