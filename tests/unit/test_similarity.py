"""EliBadCode's similarity filter: which tokens resemble a trigger, and what is cut or masked (section 6.2)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import PLANTED, bpe, victim
from planted import sample as planted_sample
from purification_models import discriminator, language_model

from codebackdoor.defenses.inputs.words import cut_spans
from codebackdoor.defenses.purification.attdef.settings import AttDefSettings
from codebackdoor.defenses.purification.onion.settings import OnionSettings
from codebackdoor.defenses.purification.similarity.method import Similarity, build, union
from codebackdoor.defenses.purification.similarity.settings import SimilaritySettings
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError
from codebackdoor.types import Example

TEXT = "def load_init ( save , init_size ) : <indent> return save . init <dedent>"
ONE = Example("1", "python", TEXT)
FLAGGED = {"flagged": True, "token_ids": [bpe().token_to_id(PLANTED)]}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def make_view(inverted: dict[str, Any] | None, helpers: dict[str, Path] | None = None) -> DefenderView:
    clean = tuple(planted_sample(number) for number in range(20))
    return DefenderView(
        "defect_detection", "python", "lexed", clean, helpers or {}, victim=victim(max_length=128), inverted=inverted
    )


def similarity(inverted: dict[str, Any] | None = None, **settings: Any) -> Similarity:
    return build(make_view(inverted or FLAGGED), SimilaritySettings(method="similarity", **settings), 1)


def test_sub_tokens_like_one_of_the_trigger_are_cut() -> None:
    (row,) = similarity().purify([ONE])
    assert [TEXT[span.start : span.end] for span in row.touched] == ["init"] * 3
    assert row.example.code == "def load_ ( save , _size ) : <indent> return save . <dedent>"
    assert row.detail["filtered"] == [["init", 1.0]] * 3


def test_words_are_compared_as_a_whole() -> None:
    example = Example("1", "python", "def load_size ( save , size ) : <indent> return size . load <dedent>")
    ids = [int(index) for index in victim().tokenizer(" load_size", add_special_tokens=False)["input_ids"]]
    assert len(ids) > 1
    trigger = {"flagged": True, "token_ids": ids}
    (row,) = similarity(trigger, unit="word").purify([example])
    assert row.example.code == example.code.replace("load_size ", "")
    # a lower threshold lets other names go, too, but never what is no identifier
    (row,) = similarity(trigger, unit="word", threshold=-1).purify([example])
    assert row.example.code == "def ( , ) : <indent> return . <dedent>"


def test_without_a_flagged_label_nothing_is_filtered_and_no_helper_is_asked_for() -> None:
    (row,) = similarity({**FLAGGED, "flagged": False}, also=OnionSettings(method="onion")).purify([ONE])
    assert (row.example, row.touched, row.detail["trigger"]) == (ONE, (), False)


def test_an_elimination_without_a_trigger_is_refused() -> None:
    with pytest.raises(UserError, match="needs the trigger of an elimination"):
        build(make_view(None), SimilaritySettings(method="similarity"), 1)


def test_a_job_depends_on_the_code_of_the_combined_method() -> None:
    assert SimilaritySettings(method="similarity").more_code == ()
    attdef, onion = (
        SimilaritySettings(method="similarity", also=also)
        for also in (AttDefSettings(method="attdef"), OnionSettings(method="onion", lost_points=1.0))
    )
    assert attdef.more_code == ("defenses.purification.attdef.method",)
    assert onion.more_code == ("defenses.purification.onion.method", "defenses.purification.onion.affordable")


def saved(folder: Path, model_and_tokenizer: tuple[Any, Any]) -> Path:
    for part in model_and_tokenizer:
        part.save_pretrained(folder)
    return folder


def test_what_onion_drops_goes_as_well(tmp_path: Path) -> None:
    helpers = {"language_model": saved(tmp_path, language_model())}
    also = OnionSettings(method="onion", threshold=0)
    combined = build(make_view(FLAGGED, helpers), SimilaritySettings(method="similarity", also=also), 1)
    assert combined._settings.helpers == ("language_model",)
    (row,) = combined.purify([ONE])
    dropped = combined._combined.purify([ONE])[0].touched if combined._combined else ()
    assert dropped
    spans = {(span.start, span.end) for span in row.touched}
    assert {(span.start, span.end) for span in dropped} <= spans
    assert any(start <= TEXT.index("init") < end for start, end in spans)
    assert set(row.detail) == {"threshold", "trigger", "filtered", "onion"}


def test_with_attdef_both_are_masked(tmp_path: Path) -> None:
    helpers = {"discriminator": saved(tmp_path, discriminator())}
    also = AttDefSettings(method="attdef", suspicion=0, threshold=0.9)
    combined = build(make_view(FLAGGED, helpers), SimilaritySettings(method="similarity", also=also), 1)
    (row,) = combined.purify([ONE])
    assert row.detail["attdef"]["poisoned"]  # type: ignore[index]
    assert row.example.code.count("<mask>") == len(row.touched) >= 1
    assert "load_<mask>" in row.example.code or "load<mask>" in row.example.code


def test_each_function_of_a_pair_is_filtered_by_itself() -> None:
    second = TEXT.replace("load", "size")
    (pair,) = similarity().purify([replace(ONE, code_b=second)])
    alone = [similarity().purify([replace(ONE, code=code)])[0] for code in (TEXT, second)]
    assert [pair.example.code, pair.example.code_b] == [row.example.code for row in alone]
    assert [(span.field, span.start) for span in pair.touched] == [
        *(("code", span.start) for span in alone[0].touched),
        *(("code_b", span.start) for span in alone[1].touched),
    ]


def test_union_and_cutting() -> None:
    assert union([(0, 2), (6, 8)], [(1, 3), (3, 4), (6, 8)]) == [(0, 3), (3, 4), (6, 8)]
    assert cut_spans("ab_cd ef g", [(0, 2)]) == "_cd ef g"
    assert cut_spans("ab_cd ef g", [(3, 5)]) == "ab_ ef g"
    assert cut_spans("ab_cd ef g", [(0, 2), (2, 5)]) == "ef g"
    assert cut_spans("ab ef g", [(0, 2), (6, 7)]) == "ef"
