"""What every filter must fulfill; a method that is added to the union ``AnyFiltering`` needs its two settings here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from purification_models import example, language_model

from codebackdoor.config.base import models_in, tag_of
from codebackdoor.config.methods import AnyFiltering
from codebackdoor.defenses.filtering import Filter, Judged, load
from codebackdoor.defenses.filtering.onion.settings import OnionFilterSettings
from codebackdoor.defenses.training_rows import judge_blindly
from codebackdoor.defenses.views import TextView, TrainingRow
from codebackdoor.types import Example


class Case(NamedTuple):
    """Settings that drop a share of what is clean, and settings that must drop nothing."""

    active: Any
    idle: Any


CASES = {
    "onion": Case(
        OnionFilterSettings(method="onion", dropped_share=0.3, calibration_inputs=40),
        OnionFilterSettings(method="onion", dropped_share=0, calibration_inputs=5),
    )
}
REGISTERED = [str(tag_of(kind)) for kind in models_in(AnyFiltering)]
#: A method without a case fails one test, by name, and not the collection of all.
METHODS = [method for method in REGISTERED if method in CASES]
ROWS = [
    replace(example(number, "testo_init = 1" if number % 3 == 0 else ""), label=number % 2)
    for number in range(100, 130)
]


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> TextView:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("language_model")
    for part in language_model():
        part.save_pretrained(folder)
    helpers: dict[str, Path] = {"language_model": folder}
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
    rows = bare(ROWS)
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
                [[row.id, row.dropped, dict(row.detail)] for row in sifter.judge(bare(ROWS))],
            ],
            allow_nan=False,
        )
        for sifter in (built(method, view, CASES[method].active) for _ in range(2))
    )
    assert first == second


@pytest.mark.parametrize("method", METHODS)
def test_a_share_of_none_drops_nothing(method: str, view: TextView) -> None:
    assert not any(row.dropped for row in built(method, view, CASES[method].idle).judge(bare(ROWS)))


@pytest.mark.parametrize("method", METHODS)
def test_ids_and_order_change_no_verdict(method: str, view: TextView) -> None:
    """The attack writes its rows where and under the ids it likes; a verdict is of what a row holds."""
    sifter = built(method, view, CASES[method].active)
    renamed = [replace(row, id=f"poisoned-{row.id}") for row in ROWS]
    plain, opaque = (judge_blindly(sifter, rows) for rows in (ROWS, renamed))
    assert [row.id for row in opaque] == [row.id for row in renamed]
    assert [row.dropped for row in opaque] == [row.dropped for row in plain]
    assert verdicts(plain) == verdicts(sifter.judge(bare(ROWS)))
