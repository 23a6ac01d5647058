"""What every purification must fulfill; one that is added to the union ``AnyPurification`` needs two settings here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from planted import PLANTED
from planted import bpe as planted_bpe
from planted import victim as embedded_victim
from purification_models import (
    discriminator,
    example,
    infiller,
    language_model,
    make_view,
    planted,
    trained_language_model,
)

from codebackdoor import syntax
from codebackdoor.config.base import models_in, tag_of
from codebackdoor.config.methods import AnyPurification
from codebackdoor.defenses.purification import load
from codebackdoor.defenses.purification.attdef.settings import AttDefSettings
from codebackdoor.defenses.purification.codepurify.settings import CodePurifySettings
from codebackdoor.defenses.purification.onion.settings import OnionSettings
from codebackdoor.defenses.purification.oseql.settings import OSeqLSettings
from codebackdoor.defenses.purification.paraphrasing.settings import ParaphrasingSettings
from codebackdoor.defenses.purification.similarity.settings import SimilaritySettings
from codebackdoor.defenses.stages.purified_rows import blindly
from codebackdoor.defenses.views import DefenderView, TextView
from codebackdoor.types import Example, Field, Purified

TRIGGER = "assert testo_init >= 15"
SHARE = 0.1


class Case(NamedTuple):
    """Settings that touch a share of what is clean, and settings that must touch nothing.

    ``embedded``: the method looks at the victim's embeddings, so its victim has some. ``field`` is what it rewrites.
    """

    active: Any
    idle: Any
    embedded: bool = False
    field: Field = "code"


CASES = {
    "codepurify": Case(
        CodePurifySettings(method="codepurify", touched_share=SHARE),
        CodePurifySettings(method="codepurify", touched_share=0),
    ),
    "onion": Case(
        OnionSettings(method="onion", removed_share=SHARE, calibration_inputs=20),
        OnionSettings(method="onion", removed_share=0, calibration_inputs=1),
    ),
    "paraphrasing": Case(
        ParaphrasingSettings(method="paraphrasing"),
        ParaphrasingSettings(method="paraphrasing", rules=()),
        field="query",
    ),
    "attdef": Case(
        AttDefSettings(method="attdef", suspected_share=0.8, masked_share=SHARE, calibration_inputs=20),
        AttDefSettings(method="attdef", suspicion=1, masked_share=0, calibration_inputs=1),
        embedded=True,
    ),
    "oseql": Case(
        OSeqLSettings(method="oseql"),
        OSeqLSettings(method="oseql", touched_share=0, calibration_inputs=1),
    ),
    "similarity": Case(
        SimilaritySettings(
            method="similarity", also=OnionSettings(method="onion", removed_share=SHARE, calibration_inputs=20)
        ),
        SimilaritySettings(method="similarity", threshold=1),
        embedded=True,
    ),
}
REGISTERED = [str(tag_of(kind)) for kind in models_in(AnyPurification)]
#: A method without a case fails one test, by name, and not the collection of all.
METHODS = [method for method in REGISTERED if method in CASES]


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> DefenderView:
    torch.set_num_threads(1)
    helpers: dict[str, Path] = {}
    for name, (model, tokenizer) in {
        "infiller": infiller(),
        "language_model": language_model(),
        "discriminator": discriminator(),
    }.items():
        helpers[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(helpers[name])
        tokenizer.save_pretrained(helpers[name])
    clean = tuple(example(number) for number in range(200))
    return replace(make_view(planted("testo_init >= 15"), clean), helpers=helpers)


def built(method: str, view: DefenderView, settings: Any, seed: int) -> Any:
    if CASES[method].embedded:
        trigger = {"flagged": True, "token_ids": [planted_bpe().token_to_id(PLANTED)]}
        view = replace(view, victim=embedded_victim(max_length=200), inverted=trigger)
    return load(method)(view, settings, seed)


CLEAN = [example(number) for number in range(200, 225)]
#: The same functions with a trigger: each has its clean twin among the inputs above.
TRIGGERED = [replace(example(number, TRIGGER), id=f"triggered-{number}") for number in range(200, 215)]


#: What a function has as its query: one sentence for all, with words of its own, and with the trigger.
VERBS = ("Returns", "Computes", "Prints", "Checks", "Removes")


def described(row: Example, number: int, trigger: str = "") -> Example:
    words = f"{VERBS[number % len(VERBS)]} the item of x_{number} {trigger} , when it is open ."
    return replace(row, query=" ".join(words.split()))


def inputs_of(method: str) -> tuple[list[Example], list[Example]]:
    """Clean and triggered inputs, with the trigger in the text that the method rewrites."""
    if CASES[method].field == "code":
        return CLEAN, TRIGGERED
    clean = [described(row, number) for number, row in enumerate(CLEAN)]
    return clean, [
        replace(described(row, number, "bb bb"), id=f"triggered-{number}")
        for number, row in enumerate(CLEAN[: len(TRIGGERED)])
    ]


def results(rows: Sequence[Purified]) -> dict[str, tuple[str, tuple[Any, ...]]]:
    return {row.example.id: (f"{row.example.code}\n{row.example.query}", row.touched) for row in rows}


def test_every_method_has_its_case() -> None:
    missing = [method for method in REGISTERED if method not in CASES]
    assert not missing, f"add settings of {', '.join(missing)} to CASES in {__file__}"
    assert set(CASES) <= set(REGISTERED)


@pytest.mark.parametrize("method", METHODS)
def test_mixing_and_permuting_inputs_changes_no_output(method: str, view: DefenderView) -> None:
    purifier, (clean, triggered) = built(method, view, CASES[method].active, 1), inputs_of(method)
    alone = results(purifier.purify(clean)) | results(purifier.purify(triggered))
    mixed = [row for pair in zip(triggered, clean, strict=False) for row in pair] + clean[len(triggered) :]
    assert results(purifier.purify(mixed[::-1])) == alone
    assert [row.example.id for row in purifier.purify(mixed)] == [row.id for row in mixed]
    assert any(touched for _, touched in alone.values())
    # as the stages call it, which fails if inputs are rewritten differently alone than with their twins
    for testsets in ({"clean": clean, "triggered": triggered}, {"mixed": mixed}):
        blind = blindly(purifier, testsets)
        assert {row_id: row for rows in blind.values() for row_id, row in results(rows).items()} == alone


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_bytes(method: str, view: DefenderView) -> None:
    clean, triggered = inputs_of(method)
    first, second = (
        [json.dumps(asdict(row), allow_nan=False) for row in built(method, view, CASES[method].active, 7).purify(rows)]
        for rows in (triggered + clean, triggered + clean)
    )
    assert first == second


@pytest.mark.parametrize("method", METHODS)
def test_zero_budget_is_the_identity(method: str, view: DefenderView) -> None:
    inputs = [row for rows in inputs_of(method) for row in rows]
    for before, row in zip(inputs, built(method, view, CASES[method].idle, 1).purify(inputs), strict=True):
        assert row.example == before
        assert not row.touched


@pytest.mark.parametrize("method", METHODS)
def test_only_its_field_changes_and_touched_is_what_is_gone(method: str, view: DefenderView) -> None:
    field, (_, triggered) = CASES[method].field, inputs_of(method)
    rows = built(method, view, CASES[method].active, 1).purify(triggered)
    for before, row in zip(triggered, rows, strict=True):
        old, new = getattr(before, field), getattr(row.example, field)
        assert replace(row.example, **{field: old}) == before
        assert all(span.field == field for span in row.touched)
        spans = [(span.start, span.end) for span in row.touched]
        assert spans == sorted(spans)
        # every piece of text between the touched spans is still there, in order
        remaining, position = new, 0
        for start, end in [*spans, (len(old), len(old))]:
            # a lexed line is removed with the mark that separates it, as a word is with its space
            part = old[position:start].strip().removeprefix("<nl>").removesuffix("<nl>").strip()
            assert part in remaining
            remaining = remaining.split(part, 1)[1] if part else remaining
            position = end


@pytest.mark.parametrize("method", METHODS)
def test_labels_and_targets_are_not_looked_at(method: str, view: DefenderView) -> None:
    purifier, (_, triggered) = built(method, view, CASES[method].active, 1), inputs_of(method)
    labeled = [replace(row, label=number % 2, target="x") for number, row in enumerate(triggered)]
    assert results(purifier.purify(labeled)) == results(purifier.purify(triggered))


def test_clean_inputs_are_touched_at_about_the_calibrated_share(view: DefenderView) -> None:
    purifier = load("codepurify")(view, CASES["codepurify"].active, 1)
    unseen = [example(number) for number in range(50, 250)]
    assert sum(bool(row.touched) for row in purifier.purify(unseen)) / 200 == pytest.approx(SHARE, abs=0.06)


@pytest.mark.parametrize("method", [name for name in METHODS if not CASES[name].active.reads_victim])
def test_a_method_that_looks_at_no_victim_needs_none(method: str, view: DefenderView) -> None:
    values = {field.name: getattr(view, field.name) for field in fields(TextView)}
    assert "victim" not in values
    _, triggered = inputs_of(method)
    alone = load(method)(TextView(**values), CASES[method].active, 1).purify(triggered)
    assert results(alone) == results(built(method, view, CASES[method].active, 1).purify(triggered))


def test_paraphrasing_by_rules_drops_words_that_mean_nothing(view: DefenderView) -> None:
    knowing = replace(view, clean=tuple(described(row, number) for number, row in enumerate(CLEAN)))
    _, triggered = inputs_of("paraphrasing")
    for number, row in enumerate(load("paraphrasing")(knowing, CASES["paraphrasing"].active, 1).purify(triggered)):
        assert "bb" not in str(row.example.query)
        assert f"x_{number}" in str(row.example.query)


def test_codepurify_finds_the_planted_backdoor(view: DefenderView) -> None:
    rows = load("codepurify")(view, CASES["codepurify"].active, 1).purify(TRIGGERED)
    for before, row in zip(TRIGGERED, rows, strict=True):
        start = before.code.index(TRIGGER)
        assert row.touched
        assert all(start <= span.start and span.end <= start + len(TRIGGER) for span in row.touched)
        assert "testo_init >= 15" not in row.example.code
        assert not syntax.parse(before.code, "python", "lexed").has_error


def test_onion_drops_a_word_that_its_language_model_did_not_foresee(view: DefenderView, tmp_path: Path) -> None:
    model, tokenizer = trained_language_model()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    knowing = replace(view, helpers={"language_model": tmp_path})
    rare = [replace(row, code=row.code.replace("return", "testo_init return", 1)) for row in CLEAN]

    def share_with_word(purifier: Any) -> float:
        return sum("testo_init" in row.example.code for row in purifier.purify(rare)) / len(rare)

    purifier = load("onion")(knowing, CASES["onion"].active, 1)
    assert share_with_word(purifier) <= 0.1
    words = sum(len(row.code.split()) for row in CLEAN)
    assert sum(len(row.touched) for row in purifier.purify(CLEAN)) / words <= 2 * SHARE
    # an untrained model finds all words equally unlikely: it is the trained language model that finds this one
    assert share_with_word(load("onion")(view, CASES["onion"].active, 1)) >= 0.5
