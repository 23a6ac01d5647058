"""What every filter must fulfill; a method that is added to the union ``AnyFiltering`` needs its two settings here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from planted_rows import POISONED_ROWS, UNPOISONED_ROWS, training_view
from purification_models import example, infiller, language_model

from codebackdoor.config.base import models_in, tag_of
from codebackdoor.config.methods import AnyFiltering
from codebackdoor.defenses.filtering import Filter, Judged, load
from codebackdoor.defenses.filtering.activation_clustering.settings import ActivationClusteringSettings
from codebackdoor.defenses.filtering.bki.settings import BkiSettings
from codebackdoor.defenses.filtering.codepurify.settings import CodePurifyFilterSettings
from codebackdoor.defenses.filtering.onion.settings import OnionFilterSettings
from codebackdoor.defenses.filtering.spectral_signature.settings import SpectralSignatureSettings
from codebackdoor.defenses.stages.kept_rows import judge_blindly
from codebackdoor.defenses.views import TextView, TrainingRow
from codebackdoor.types import Example


class Case(NamedTuple):
    """Settings that drop a share of the clean rows, and settings that must drop nothing."""

    active: Any
    idle: Any


CASES = {
    "onion": Case(
        OnionFilterSettings(method="onion", dropped_share=0.3, calibration_inputs=40),
        OnionFilterSettings(method="onion", dropped_share=0, calibration_inputs=5),
    ),
    "spectral_signature": Case(
        SpectralSignatureSettings(method="spectral_signature", share=0.15),
        SpectralSignatureSettings(method="spectral_signature", share=0),
    ),
    "activation_clustering": Case(
        ActivationClusteringSettings(method="activation_clustering", dimensions=3),
        ActivationClusteringSettings(method="activation_clustering", dimensions=3, size_below=0),
    ),
    "bki": Case(
        # the trigger is a part of names that differ
        BkiSettings(method="bki", unit="sub_token"),
        BkiSettings(method="bki", keywords=0),
    ),
    "codepurify": Case(
        CodePurifyFilterSettings(method="codepurify", dropped_share=0.05),
        CodePurifyFilterSettings(method="codepurify", dropped_share=0),
    ),
}
#: Those that look at a victim.
BY_VICTIM = [method for method, case in CASES.items() if case.active.reads_victim]
REGISTERED = [str(tag_of(kind)) for kind in models_in(AnyFiltering)]
#: A method without a case fails one test, by name, and not the collection of all.
METHODS = [method for method in REGISTERED if method in CASES]
TEXTS = [
    replace(example(number, "testo_init = 1" if number % 3 == 0 else ""), label=number % 2)
    for number in range(100, 130)
]


def rows_of(method: str) -> list[Example]:
    return [*UNPOISONED_ROWS, *POISONED_ROWS] if method in BY_VICTIM else TEXTS


@pytest.fixture(scope="module")
def helpers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    folders = {}
    for name, parts in (("language_model", language_model()), ("infiller", infiller())):
        folders[name] = tmp_path_factory.mktemp(name)
        for part in parts:
            part.save_pretrained(folders[name])
    return folders


@pytest.fixture
def view(method: str, helpers: dict[str, Path]) -> TextView:
    """What the filter sees: its helpers, and a victim with a planted backdoor if it looks at one."""
    if method in BY_VICTIM:
        return replace(training_view(), helpers=helpers)
    return TextView("defect_detection", "python", "lexed", tuple(example(number) for number in range(60)), helpers)


def built(method: str, view: TextView, settings: Any) -> Filter:
    return load(method)(view, settings, 1)


def bare(rows: Sequence[Example]) -> list[TrainingRow]:
    return [TrainingRow(row.id, row.code, row.code_b, row.query, row.label, row.target) for row in rows]


def verdicts(judged: Sequence[Judged]) -> dict[str, bool]:
    return {row.id: row.dropped for row in judged}


def test_every_method_has_its_case() -> None:
    missing = [method for method in REGISTERED if method not in CASES]
    assert not missing, f"add settings of {', '.join(missing)} to CASES in {__file__}"
    assert set(CASES) <= set(REGISTERED)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_rows_changes_no_verdict(method: str, view: TextView) -> None:
    sifter = built(method, view, CASES[method].active)
    rows = bare(rows_of(method))
    verdict = sifter.judge(rows)
    assert [judged.id for judged in verdict] == [row.id for row in rows]
    assert verdicts(sifter.judge(rows[::-1])) == verdicts(verdict)
    assert {judged.dropped for judged in verdict} == {True, False}


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_bytes(method: str, view: TextView) -> None:
    first, second = (
        json.dumps(
            [
                dict(sifter.facts),
                [[row.id, row.dropped, dict(row.detail)] for row in sifter.judge(bare(rows_of(method)))],
            ],
            allow_nan=False,
        )
        for sifter in (built(method, view, CASES[method].active) for _ in range(2))
    )
    assert first == second


@pytest.mark.parametrize("method", METHODS)
def test_a_share_of_none_drops_nothing(method: str, view: TextView) -> None:
    assert not any(row.dropped for row in built(method, view, CASES[method].idle).judge(bare(rows_of(method))))


@pytest.mark.parametrize("method", METHODS)
def test_ids_and_order_change_no_verdict(method: str, view: TextView) -> None:
    """An attacker chooses the order and the ids of rows, so a verdict depends only on what a row contains."""
    sifter, original = built(method, view, CASES[method].active), rows_of(method)
    renamed = [replace(row, id=f"poisoned-{row.id}") for row in original]
    plain, opaque = (judge_blindly(sifter, rows) for rows in (original, renamed))
    assert [row.id for row in opaque] == [row.id for row in renamed]
    assert [row.dropped for row in opaque] == [row.dropped for row in plain]
    assert verdicts(plain) == verdicts(sifter.judge(bare(original)))


@pytest.mark.parametrize("method", BY_VICTIM)
def test_a_planted_backdoor_is_found_where_the_victim_represents_it_apart(method: str, view: TextView) -> None:
    judged = built(method, view, CASES[method].active).judge(bare(rows_of(method)))
    planted = {row.id for row in POISONED_ROWS}
    dropped = {row.id for row in judged if row.dropped}
    assert len(dropped & planted) >= 0.9 * len(planted)
    assert len(dropped - planted) <= 0.1 * len(UNPOISONED_ROWS)
    benign_view = replace(training_view(planted=False), helpers=view.helpers)
    benign = {
        row.id for row in built(method, benign_view, CASES[method].active).judge(bare(rows_of(method))) if row.dropped
    }
    assert len(benign & planted) < 0.5 * len(planted)
