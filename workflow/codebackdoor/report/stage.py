"""The report stages: a table of an experiment in three forms, a figure in two."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codebackdoor.config.experiments import Figure, Listing
from codebackdoor.files import atomic
from codebackdoor.report import listed, render
from codebackdoor.report.collect import Study, collect
from codebackdoor.report.tables import build


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


def summary(tables: Path, names: Sequence[str]) -> str:
    """What the tables of the named experiments say, as text for a terminal: values in percent, without intervals."""
    paths = (tables / f"{name}.csv" for name in names)
    return "\n\n".join(render.from_csv(path) for path in paths if path.is_file())
