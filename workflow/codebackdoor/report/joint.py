"""One page about several finished runs: their findings, the tables of all defenses, and the papers' claims."""

from __future__ import annotations

import os.path
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codebackdoor.config.products import inputs
from codebackdoor.errors import UserError
from codebackdoor.report import html, labels, records
from codebackdoor.report.findings import findings
from codebackdoor.report.study import Study
from codebackdoor.report.tables import claims

#: The products that compare all defenses with each other.
_FIGURES, _LISTINGS = ("matrix",), ("cross",)
#: CSS classes for the verdicts on claims.
_VERDICTS = {"holds": "right", "does not hold": "wrong"}


@dataclass(frozen=True, slots=True)
class _Run:
    """A finished run; ``page`` is the relative path of its own report."""

    settings: Mapping[str, Any]
    page: str

    @property
    def out(self) -> Path:
        return Path(self.settings["out"])

    @property
    def name(self) -> str:
        return labels.word(self.out.name)

    @property
    def studies(self) -> list[Study]:
        return [Study(self.settings, name) for name in self.settings["experiments"]]


def page(settings: Sequence[Mapping[str, Any]], folder: Path, commit: str | None, command: str) -> str:
    """Render the page about the runs with these settings, to be saved in ``folder``.

    Raises UserError for the first missing file of a run.
    """
    runs = [_Run(of_run, os.path.relpath(Path(of_run["out"]) / "report.html", folder)) for of_run in settings]
    for run in runs:
        if not (run.out / "report.html").is_file():
            raise UserError(f"{run.out}/report.html: not made yet; finish this run first (make run CONFIG=...)")
    return (
        html.environment()
        .get_template("joint.html.j2")
        .render(
            commit=commit,
            command=command,
            runs=[_summary(run) for run in runs],
            crosses=[cross for run in runs for cross in _crosses(run)],
            claims={
                "columns": claims.COLUMNS,
                "experiments": [experiment for run in runs for experiment in _claims(run)],
                "notes": claims.NOTES,
            },
            verdicts=_VERDICTS,
            meanings=html.meanings(),
        )
    )


def _summary(run: _Run) -> dict[str, Any]:
    studies = run.studies
    return {
        "name": run.name,
        "page": run.page,
        "findings": findings(studies),
        "experiments": [{"name": study.name, "title": study.experiment.title} for study in studies],
        "facts": records.facts(records.jobs(studies, run.out)),
    }


def _crosses(run: _Run) -> Iterator[dict[str, Any]]:
    """The experiments that compare all defenses, with the products that show it."""
    for study in run.studies:
        figures = [name for name in study.experiment.figures if name in _FIGURES]
        listings = [name for name in study.experiment.tables if name in _LISTINGS]
        if figures or listings:
            yield {
                "name": study.name,
                "title": study.experiment.title,
                "page": run.page,
                "figures": [html.figure(study, name, run.out) for name in figures],
                "listings": [html.listing(study, name, run.out) for name in listings],
            }


def _claims(run: _Run) -> Iterator[dict[str, Any]]:
    """Every experiment with the rows of its claims, even if it does not request the table."""
    for study in run.studies:
        built = claims.build(study, html.existing(inputs(study.experiment, "claims", run.out)))
        rows = [list(zip(part.columns, texts, strict=True)) for part in built.parts for texts in part.texts()]
        if rows:
            title = f"{run.name}: {study.experiment.title}"
            yield {"page": run.page, "name": study.name, "title": title, "rows": rows}
