"""The report stages: tables and figures in three formats each, pages, the HTML report, and a summary."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from codebackdoor.config.experiments import defenses, scenarios
from codebackdoor.config.scenario import NONE
from codebackdoor.files import atomic
from codebackdoor.report import render, sizes
from codebackdoor.report.collect import collect
from codebackdoor.report.doubts import doubts
from codebackdoor.report.findings import findings
from codebackdoor.report.study import Study
from codebackdoor.report.tables import listing as listings
from codebackdoor.report.tables import results as result_table

#: Width of a line in a terminal, in characters.
_WIDTH = 100


def table(settings: Mapping[str, Any], name: str, inputs: Sequence[Path], out: Path) -> None:
    """Write ``out/{name}.csv``, ``.md`` and ``.tex`` of the experiment ``name``.

    ``settings`` is the configuration as JSON (or its ``subset``); ``inputs`` are the files that ``products.inputs``
    lists.
    """
    study = Study(settings, name)
    results = collect(study, inputs)
    arranged = result_table.build(study, results)
    forms = {
        "csv": render.as_csv(study, results, arranged),
        "md": render.as_markdown(arranged),
        "tex": render.as_latex(arranged),
    }
    _write(out / name, forms)


def listing(settings: Mapping[str, Any], name: str, product: str, inputs: Sequence[Path], out: Path) -> None:
    """Write ``out/{name}.{product}.csv``, ``.md`` and ``.tex``: a further table of the experiment."""
    built = listings.build(Study(settings, name), product, inputs)
    forms = {"csv": listings.as_csv(built), "md": listings.as_markdown(built), "tex": listings.as_latex(built)}
    _write(out / f"{name}.{product}", forms)


def _write(stem: Path, forms: Mapping[str, str]) -> None:
    for suffix, text in forms.items():
        with atomic(stem.parent / f"{stem.name}.{suffix}") as stream:
            stream.write(text)


def figure(settings: Mapping[str, Any], name: str, product: str, inputs: Sequence[Path], out: Path) -> None:
    """Write ``out/{name}_{product}.svg``, ``.png`` and ``.pdf``."""
    module = importlib.import_module(f"codebackdoor.report.figures.{product}")
    module.draw(Study(settings, name), inputs, out / f"{name}_{product}")


def webpage(settings: Mapping[str, Any], name: str, product: str, inputs: Sequence[Path], out: Path) -> None:
    """Write ``out/{name}.{product}.html``, a page that needs no other file."""
    module = importlib.import_module(f"codebackdoor.report.webpages.{product}")
    _write(out / f"{name}.{product}", {"html": module.render(Study(settings, name), inputs)})


def html(
    settings: Mapping[str, Any],
    archives: Sequence[Mapping[str, str]],
    commit: str | None,
    out: Path,
    command: str | None = None,
) -> None:
    """Write the report of the finished run under ``settings["out"]`` to the file ``out``.

    ``command`` reproduces the run and the report.
    """
    from codebackdoor.report.html import page

    text = page(settings, archives, commit, command)
    with atomic(out) as stream:
        stream.write(text)


def joint(settings: Sequence[Mapping[str, Any]], commit: str | None, out: Path, command: str) -> None:
    """Write one page about several finished runs to the file ``out``; ``command`` reproduces it."""
    from codebackdoor.report.joint import page

    text = page(settings, out.parent, commit, command)
    with atomic(out) as stream:
        stream.write(text)


def summary(settings: Mapping[str, Any]) -> str:
    """A finished run as text for a terminal: tables in percent, findings, warnings, and what to do next."""
    out = Path(settings["out"])
    studies = [Study(settings, name) for name in settings["experiments"]]
    tables = [path for study in studies if (path := out / "results/tables" / f"{study.name}.csv").is_file()]
    blocks = [render.from_csv(path) for path in tables]
    if tables:
        blocks.append(render.legend(tables))
    lines = [fill(finding, _WIDTH, initial_indent="  ", subsequent_indent="    ") for finding in findings(studies)]
    if lines:
        blocks.append("\n".join(["What this shows:", *lines]))
    blocks += dict.fromkeys(sizes.sentence(study) for study in studies)
    warnings = dict.fromkeys(f"Warning: {doubt}" for study in studies for doubt in doubts(study))
    blocks += (fill(warning, width=_WIDTH, subsequent_indent="  ") for warning in warnings)
    blocks.append("\n".join([f"next: open {(out / 'report.html').resolve().as_uri()}", *_scan(studies, out)]))
    return "\n\n".join(blocks)


def _scan(studies: Sequence[Study], out: Path) -> Iterator[str]:
    """A suggested command that scans the first attacked victim of the run that can be scanned."""
    attacked = (
        (study, scenario)
        for study in studies
        for scenario in scenarios(study.experiment)
        if scenario.attack != NONE and not defenses(scenario) and study.head(scenario.dataset).predicts_label
    )
    for study, scenario in attacked:
        activate = "source .env/bin/activate; " if Path(".env/bin/activate").is_file() else ""
        files = shlex.join([str(scenario.victim(out)), "--clean", str(out / "data" / scenario.dataset / "clean.jsonl")])
        yield f"      try  {activate}codebackdoor scan --task {study.task(scenario.dataset)} {files}"
        return
