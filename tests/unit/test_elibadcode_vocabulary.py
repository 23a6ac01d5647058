"""Phase (a): which pieces a trigger may be made of, how they are rendered, which of them survive being read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from planted import victim
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from codebackdoor.defenses.elimination.inversion.candidates import first_trigger
from codebackdoor.defenses.elimination.inversion.vocabulary import (
    TriggerVocabulary,
    build,
    encode,
    pieces,
    starts,
)
from codebackdoor.errors import UserError


@pytest.fixture(scope="module")
def roberta() -> PreTrainedTokenizerFast:
    mirror = os.environ.get("CODEBACKDOOR_MIRROR")
    folder = Path(mirror or "") / "tokenizers" / "roberta-base"
    if not mirror or not folder.is_dir():
        pytest.skip("RoBERTa's vocabulary is not here: set CODEBACKDOOR_MIRROR to the folder with the benchmark data")
    model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def shipped() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(str(Path(__file__).parents[2] / "basemodels/encoder"))


@pytest.mark.mirror
def test_counts_on_robertas_vocabulary(roberta: PreTrainedTokenizerFast) -> None:
    tokens = list(roberta.get_vocab())
    assert len(tokens) == 50_265
    assert len(pieces(tokens, "paper", "java")) == 15_838
    assert len(pieces(tokens, "language", "java")) == 15_841
    assert len([piece for piece in pieces(tokens, "language", "java") if starts(piece, "language")]) == 14_847
    assert len(pieces(tokens, "language", "c")) == 15_838


@pytest.mark.mirror
def test_behind_a_space_a_trigger_begins_with_a_word_initial_piece(roberta: PreTrainedTokenizerFast) -> None:
    spaced = build(roberta, "paper", "c", [True])
    assert len(spaced) == len(build(roberta, "paper", "c", [False]).first) == 15_838
    assert all(spaced.spaced[index] >= 0 for index in spaced.first)
    test, init = spaced.pieces.index("test"), spaced.pieces.index("init")
    assert roberta.convert_ids_to_tokens(spaced.ids([test, init], spaced=True)) == ["Ġtest", "init"]
    assert roberta.convert_ids_to_tokens(spaced.ids([test, init], spaced=False)) == ["test", "init"]


def test_the_languages_rule_asks_for_a_legal_first_character() -> None:
    tokenizer = victim().tokenizer
    paper, java = build(tokenizer, "paper", "java", [False]), build(tokenizer, "language", "java", [False])
    assert set(java.pieces) - set(paper.pieces) == {"$"}
    assert {paper.pieces[index] for index in paper.first} - {java.pieces[index] for index in java.first} == set(
        "0123456789"
    )


@pytest.mark.parametrize("context", [True, False])
def test_survivors_are_exactly_those_that_are_read_as_they_were_made(context: bool) -> None:
    vocabulary = build(victim().tokenizer, "paper", "python", [context])
    draw = np.random.default_rng(3)
    drawn = [[int(draw.choice(vocabulary.first)), *map(int, draw.integers(0, len(vocabulary), 2))] for _ in range(200)]
    alive = vocabulary.survive(drawn, [context])
    assert 20 < sum(alive) < 200
    around = "def {} (" if context else "def ({} ("
    texts = [around.format(vocabulary.text(trigger)) for trigger in drawn]
    encoded = victim().tokenizer(texts, add_special_tokens=False)["input_ids"]
    start = 1 if context else 2
    assert alive == [
        ids[start:-1] == vocabulary.ids(trigger, context) for ids, trigger in zip(encoded, drawn, strict=True)
    ]


def test_a_text_is_encoded_as_it_is_read_in_its_context() -> None:
    tokenizer = victim().tokenizer
    assert tokenizer.convert_ids_to_tokens(encode(tokenizer, ["load_init"], True)[0]) == ["Ġload", "_", "init"]
    behind = tokenizer.convert_ids_to_tokens(encode(tokenizer, ["load_init"], False)[0])
    assert "".join(behind) == "load_init"


def test_a_tokenizer_without_identifier_pieces_is_a_user_error() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab={"+": 0, "Ġ(": 1}, merges=[])))
    with pytest.raises(UserError, match="none of the 2 pieces"):
        build(tokenizer, "paper", "c", [True])


def test_by_the_rule_of_words_a_trigger_may_begin_with_a_piece_that_only_begins_words() -> None:
    tokens = ["tmp", "_h", "Ġ", "Ġtmp", "Ġ_h", "Ġresp", "Ġ.x", "h"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(tokens)}, merges=[]))
    )
    vocabulary = build(tokenizer, "words", "python", [True])
    assert vocabulary.pieces == ("tmp", "_h", "h", "resp")
    assert vocabulary.plain.tolist() == [0, 1, 7, -1]
    assert vocabulary.spaced.tolist() == [3, 4, -1, 5]
    assert [vocabulary.pieces[index] for index in vocabulary.first] == ["tmp", "_h", "resp"]
    assert vocabulary.ids([3, 2], spaced=True) == [5, 7]
    # the paper's has none of these, and neither has a place that follows no space
    assert build(tokenizer, "paper", "python", [True]).pieces == vocabulary.pieces[:3]
    assert build(tokenizer, "words", "python", [False, True]).pieces == vocabulary.pieces[:3]


@pytest.mark.mirror
def test_most_of_robertas_words_only_begin(roberta: PreTrainedTokenizerFast) -> None:
    paper, words = (build(roberta, rule, "java", [True]) for rule in ("paper", "words"))
    assert (len(paper), len(paper.first)) == (15_838, 32_765 - 24_477)
    assert (len(words), len(words.first)) == (15_838 + 24_477, 32_765)
    assert words.pieces[: len(paper)] == paper.pieces
    # read as it was made, at the beginning; in another slot it is not
    says, init = words.pieces.index("says"), words.pieces.index("init")
    assert words.survive([(says, init), (init, says)], [True]) == [True, False]


def test_without_phase_a_every_slot_is_open_to_every_piece_with_a_visible_text() -> None:
    table = ["tmp", "_h", "Ġ", "Ġtmp", "Ġresp", ">=", "Ġ>=", "Ċ", "Ã©", "Ã", "<s>"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(table)}, merges=[])),
        bos_token="<s>",
    )
    tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()
    vocabulary = build(tokenizer, "all", "python", [True])
    # no line ends, no halves of a character, no special tokens
    assert vocabulary.pieces == ("tmp", "_h", ">=", "é", " tmp", " resp", " >=", "resp")
    assert vocabulary.plain.tolist() == [0, 1, 5, 8, 3, 4, 6, -1]
    assert vocabulary.spaced.tolist() == [3, -1, 6, -1, -1, -1, -1, 4]
    assert [vocabulary.pieces[index] for index in vocabulary.first] == ["tmp", ">=", "resp"]
    assert (vocabulary.text([7, 6, 1]), vocabulary.ids([7, 6, 1], spaced=True)) == ("resp >=_h", [4, 6, 1])
    # directly behind a bracket a trigger begins with a piece that continues, and has spaces inside all the same
    bare = build(tokenizer, "all", "python", [False])
    assert [bare.pieces[index] for index in bare.first] == ["tmp", "_h", ">=", "é"]
    assert bare.pieces == vocabulary.pieces[:-1]


@pytest.mark.mirror
def test_without_phase_a_nearly_all_of_robertas_pieces_are_searched(roberta: PreTrainedTokenizerFast) -> None:
    roberta.backend_tokenizer.decoder = decoders.ByteLevel()
    vocabulary = build(roberta, "all", "java", [True])
    inside = int((vocabulary.plain >= 0).sum())
    assert inside == len({int(index) for index in vocabulary.plain if index >= 0})
    assert (inside, len(vocabulary.first)) == (49_858, 33_079)


def test_a_first_trigger_is_made_of_pieces_that_may_stand_in_their_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TriggerVocabulary, "survive", lambda *_: [True])
    vocabulary = build(shipped(), "words", "python", [True])
    inside = {*np.flatnonzero(vocabulary.plain >= 0).tolist()}
    assert len(inside) < len(vocabulary)
    for seed in range(20):
        first, *rest = first_trigger(vocabulary, 10, [True], np.random.default_rng(seed))
        assert first in vocabulary.first
        assert {*rest} <= inside


def test_words_say_so_where_they_are_the_papers_rule(caplog: pytest.LogCaptureFixture) -> None:
    build(shipped(), "words", "python", [True])
    assert not caplog.records
    build(shipped(), "words", "python", [False, True])
    assert "vocabulary: paper" in caplog.text
