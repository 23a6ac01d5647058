"""Stored evidence: what a purification measures on each input, shared by variants that differ only in their decisions.

``suspect`` queries the victim and writes the evidence; ``decide`` purifies by it. Together they give the same results
as ``stages.purify.purify`` with the same settings. A decision sees texts and their evidence, and no victim.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codebackdoor import files
from codebackdoor.defenses import blinding, purification, thresholds
from codebackdoor.defenses.defender_view import defender_view
from codebackdoor.defenses.stages.job import DefenseJob
from codebackdoor.defenses.stages.purified_rows import blindly, write_purified
from codebackdoor.defenses.views import TextView
from codebackdoor.errors import UserError
from codebackdoor.types import Example
from codebackdoor.victims import predictions
from codebackdoor.victims.checkpoints import local_folder
from codebackdoor.victims.rows import examples
from codebackdoor.victims.victim import load_victim

if TYPE_CHECKING:
    from codebackdoor.defenses.purification.settings import EvidenceSettings

#: Two measurements of the same input differ by rounding.
ROUNDING = 1e-3
FACTS, CALIBRATION = "evidence.json", "calibration.jsonl"
VALID = "validation rows"


class KeptEvidence:
    """Evidence by text, as an earlier job measured it."""

    def __init__(self, inputs: Sequence[Example], rows: Sequence[Mapping[str, Any]]) -> None:
        # as text: each call of a purifier gets a copy, and copying many small objects is slow
        self._rows = {tuple(example.texts.items()): json.dumps(row) for example, row in zip(inputs, rows, strict=True)}

    def evidence(self, inputs: Sequence[Example]) -> list[dict[str, Any]]:
        return [json.loads(self._rows[tuple(example.texts.items())]) for example in inputs]


def suspect(settings: EvidenceSettings, job: DefenseJob) -> None:
    """Write ``evidence.{testset}.jsonl`` for each test set, and ``calibration.jsonl`` for the clean rows.

    A row has an id and the method's evidence. ``evidence.json`` says what the evidence was measured with.
    """
    view = defender_view(load_victim(job.victim), job.dataset, tuple(files.read_examples(job.clean)), job.helpers)
    rows = {name: examples(files.read_mixed(path)) for name, path in job.testsets.items()}
    clean = thresholds.drawn(view.clean, settings.calibration_inputs, job.seed)
    with blinding.nameless():
        source = purification.load_source(settings.method)(view, settings)
        measured = {CALIBRATION: list(source.evidence(clean))}
        for name, testset in rows.items():
            evidence = blinding.applied_blindly(source, _evidence, {name: testset}, MEASURES_ALIKE)
            measured[_file(name)] = evidence[name]
    for file, testset in ((CALIBRATION, clean), *((_file(name), testset) for name, testset in rows.items())):
        ids = (example.id for example in testset)
        files.write_rows(job.out / file, ({"id": id_, **row} for id_, row in zip(ids, measured[file], strict=True)))
    files.write_json(job.out / FACTS, dict(_facts(settings, job)))


def decide(settings: EvidenceSettings, job: DefenseJob, evidence: Path) -> None:
    """Write ``purified.{testset}.jsonl`` and ``predictions.{testset}.jsonl`` by the evidence of ``suspect``.

    UserError if the evidence was measured with another victim, helper, setting, seed or other rows.
    """
    _check(evidence, dict(_facts(settings, job)))
    dataset, clean = job.dataset, tuple(files.read_examples(job.clean))
    rows = {name: examples(files.read_mixed(path)) for name, path in job.testsets.items()}
    view = TextView.of(dataset, clean, job.helpers)
    drawn = thresholds.drawn(clean, settings.calibration_inputs, job.seed)
    with blinding.nameless():
        measured = _read_evidence(evidence / CALIBRATION, drawn)
        purifier = purification.load_decider(settings.method)(view, settings, job.seed, measured)
        for name, testset in rows.items():
            purifier.source = _read_evidence(evidence / _file(name), testset)
            write_purified(_purified(job.out, name), blindly(purifier, {name: testset})[name])
    purified = {name: _purified(job.out, name) for name in rows}
    predictions.predict(job.victim, job.testsets, job.out, purified, dataset.ranking.pool)


def _file(testset: str) -> str:
    return f"evidence.{testset}.jsonl"


def _purified(out: Path, testset: str) -> Path:
    return out / f"purified.{testset}.jsonl"


def _close(first: Any, second: Any) -> bool:
    """Whether two JSON values are the same up to the rounding of numbers."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(_close(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(_close, first, second))
    if isinstance(first, float) and isinstance(second, float):
        return abs(first - second) <= ROUNDING
    return bool(first == second)


#: Few inputs are checked: measuring is expensive.
MEASURES_ALIKE: blinding.IndependenceCheck[Mapping[str, Any]] = blinding.IndependenceCheck(
    _close,
    most=blinding.FEWEST_CHECKED,
    complaint="have different evidence when they are measured alone: what a purification measures on an input must "
    "depend on that input only",
)


def _evidence(source: purification.EvidenceSource, rows: Sequence[Example]) -> Sequence[Mapping[str, Any]]:
    return source.evidence(rows)


def _read_evidence(path: Path, rows: Sequence[Example]) -> KeptEvidence:
    measured = [row for _, row in files.read_rows(path)]
    if [row.get("id") for row in measured] != [row.id for row in rows]:
        raise UserError(f"{path}: these are not the rows of the test set; {_again(path.parent)}")
    return KeptEvidence(rows, [{key: value for key, value in row.items() if key != "id"} for row in measured])


def _facts(settings: EvidenceSettings, job: DefenseJob) -> Iterator[tuple[str, object]]:
    """What evidence depends on: checksums of models and rows, the settings that measuring reads, and the seed."""
    yield "victim", _checksum(job.victim)
    yield from ((name, _checksum(local_folder(path))) for name, path in job.helpers.items())
    yield "settings", settings.evidence_settings()
    yield "seed", job.seed
    yield VALID, files.sha256(job.clean)
    yield from ((f"test set {name}", files.sha256(path)) for name, path in job.testsets.items())


def _checksum(folder: Path) -> str:
    """Checksum of a model: of its ``SHA256SUMS`` if it has one, otherwise of its files."""
    sums = folder / files.CHECKSUMS
    if sums.is_file():
        return files.sha256(sums)
    paths = sorted((*folder.glob("*.json"), *folder.glob("*.safetensors")))
    return hashlib.sha256("".join(f"{path.name} {files.sha256(path)}\n" for path in paths).encode()).hexdigest()


def _check(folder: Path, facts: Mapping[str, object]) -> None:
    recorded = files.read_object(folder / FACTS)
    differing = [name for name, value in facts.items() if recorded.get(name) != value]
    if differing:
        raise UserError(f"{folder}: this evidence is of another {' and another '.join(differing)}; {_again(folder)}")


def _again(folder: Path) -> str:
    return f"delete {folder} and make it with `codebackdoor suspect`"
