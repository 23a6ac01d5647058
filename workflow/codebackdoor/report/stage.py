"""The report stages: a table of an experiment in three forms, a figure in two."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from codebackdoor.config.experiments import Figure, Listing, defenses, scenarios
from codebackdoor.config.scenario import NONE
from codebackdoor.files import atomic
from codebackdoor.report import labels, listed, render, sizes
from codebackdoor.report.collect import Study, collect
from codebackdoor.report.doubts import doubts
from codebackdoor.report.tables import build

#: Characters in a line of a terminal.
_WIDTH = 100


def table(settings: Mapping[str, Any], name: str, inputs: Sequence[Path], out: Path) -> None:
    """Write ``out/{name}.csv``, ``.md`` and ``.tex`` of the experiment ``name``.

    ``settings`` is the configuration as JSON (or its ``subset``); ``inputs`` are what ``products.inputs`` lists.
    """
    study = Study(settings, name)
    scored = collect(study, inputs)
    built = build(study, scored)
    forms = {
        "csv": render.as_csv(study, scored, built),
        "md": render.as_markdown(built),
        "tex": render.as_latex(built),
    }
    _write(out / name, forms)


def listing(settings: Mapping[str, Any], name: str, kind: Listing, inputs: Sequence[Path], out: Path) -> None:
    """Write ``out/{name}.{kind}.csv``, ``.md`` and ``.tex``: a further table of the experiment."""
    found = listed.build(Study(settings, name), kind, inputs)
    forms = {"csv": listed.as_csv(found), "md": listed.as_markdown(found), "tex": listed.as_latex(found)}
    _write(out / f"{name}.{kind}", forms)


def _write(stem: Path, forms: Mapping[str, str]) -> None:
    for suffix, text in forms.items():
        with atomic(stem.parent / f"{stem.name}.{suffix}") as stream:
            stream.write(text)


def figure(settings: Mapping[str, Any], name: str, kind: Figure, inputs: Sequence[Path], out: Path) -> None:
    """Write ``out/{name}_{kind}.png`` and ``.pdf``."""
    module = importlib.import_module(f"codebackdoor.report.figures.{kind}")
    module.draw(Study(settings, name), inputs, out / f"{name}_{kind}")


def html(settings: Mapping[str, Any], archives: Sequence[Mapping[str, str]], commit: str | None, out: Path) -> None:
    """Write the report of the finished run under ``settings["out"]`` to the file ``out``."""
    from codebackdoor.report.html import page

    text = page(settings, archives, commit)
    with atomic(out) as stream:
        stream.write(text)


def summary(settings: Mapping[str, Any]) -> str:
    """What a finished run says, as text for a terminal: its tables in percent, what to doubt, and where to go on."""
    out = Path(settings["out"])
    studies = [Study(settings, name) for name in settings["experiments"]]
    tables = [path for study in studies if (path := out / "results/tables" / f"{study.name}.csv").is_file()]
    blocks = [render.from_csv(path) for path in tables]
    if tables:
        blocks.append(render.legend(tables))
    blocks += dict.fromkeys(sizes.sentence(study) for study in studies)
    warnings = dict.fromkeys(f"Warning: {doubt}" for study in studies for doubt in doubts(study))
    blocks += (fill(warning, width=_WIDTH, subsequent_indent="  ") for warning in warnings)
    blocks.append("\n".join([f"next: open {(out / 'report.html').resolve().as_uri()}", *_scan(studies, out)]))
    return "\n\n".join(blocks)


def _scan(studies: Sequence[Study], out: Path) -> Iterator[str]:
    """A command that scans the first attacked victim of the run that there is a scan for."""
    attacked = (
        (study, scenario)
        for study in studies
        for scenario in scenarios(study.experiment)
        if scenario.attack != NONE and not defenses(scenario) and study.task(scenario.dataset) in labels.LABELLED
    )
    for study, scenario in attacked:
        activate = "source .env/bin/activate; " if Path(".env/bin/activate").is_file() else ""
        files = shlex.join([str(scenario.victim(out)), "--clean", str(out / "data" / scenario.dataset / "clean.jsonl")])
        yield f"      try  {activate}codebackdoor scan --task {study.task(scenario.dataset)} {files}"
        return
