"""The publications behind a study: those of its methods, and the papers whose tables it is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from codebackdoor.config.base import Reference
from codebackdoor.config.experiments import scenarios
from codebackdoor.config.scenario import NONE
from codebackdoor.config.sections import SECTIONS
from codebackdoor.report import labels, papers
from codebackdoor.report.study import Study, tag


@dataclass(frozen=True, slots=True)
class Citation:
    """A publication, and the names under which the report mentions it."""

    names: tuple[str, ...]
    reference: Reference
    venue: str | None = None


def references(studies: Sequence[Study]) -> list[Citation]:
    """Every publication once: first those of the methods, then the papers."""
    venues = {paper.reference.url: paper.venue for paper in papers.papers().values()}
    names: dict[str, dict[str, None]] = {}
    publications: dict[str, Reference] = {}
    for study in studies:
        for name, reference in (*_methods(study), *_papers(study)):
            publications.setdefault(reference.url, reference)
            names.setdefault(reference.url, {})[name] = None
    return [Citation(tuple(names[url]), work, venues.get(url)) for url, work in publications.items()]


def _methods(study: Study) -> Iterator[tuple[str, Reference]]:
    used = scenarios(study.experiment)
    for kind, section in SECTIONS.items():
        for variant in dict.fromkeys(getattr(scenario, kind) for scenario in used):
            reference = None if variant == NONE else study.settings_class(section, variant).reference
            if reference is not None:
                yield labels.word(str(tag(study.variant(section, variant)))), reference


def _papers(study: Study) -> Iterator[tuple[str, Reference]]:
    for cited in study.experiment.paper:
        paper = papers.of_table(cited.table)
        yield paper.title, paper.reference
