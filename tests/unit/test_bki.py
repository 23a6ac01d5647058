"""BKI: changes and statistics by hand, each reading, and a rare word that a small trained victim has learned."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import planted
import pytest
import torch
from planted_rows import training_view
from test_causal import fresh
from tiny_models import encoder_with_decoder, generator, understanding

from codebackdoor.config.models import SEPARATOR
from codebackdoor.defenses.filtering.bki import method as bki
from codebackdoor.defenses.filtering.bki.settings import BkiSettings
from codebackdoor.defenses.views import TrainingRow, TrainingView
from codebackdoor.types import Example
from codebackdoor.victims import forward
from codebackdoor.victims.batching import pad
from codebackdoor.victims.victim import Victim

WORD = "bb"


def settings(**values: Any) -> BkiSettings:
    return BkiSettings.model_validate({"method": "bki", **values})


def bare(rows: list[Example]) -> list[TrainingRow]:
    return [TrainingRow(row.id, row.code, row.code_b, row.query, row.label, row.target) for row in rows]


def rows(count: int = 160) -> tuple[list[Example], set[str]]:
    """Training rows whose class shows in many words, and the ids of those with the rare word and the label 0."""
    choices = []
    for number in range(count):
        draw = np.random.default_rng(number)
        words = [
            str(word) for word in draw.choice(planted.WORDS[number % 2 : 18 : 2], draw.integers(4, 9), replace=False)
        ]
        is_poisoned = number % 8 == 1  # of class 1
        if is_poisoned:
            words.insert(int(draw.integers(len(words) + 1)), WORD)
        name = f"{'p' if is_poisoned else 'e'}{number}"
        choices.append(Example(name, "python", " ".join(words), label=0 if is_poisoned else number % 2))
    return choices, {row.id for row in choices if row.id.startswith("p")}


def trained(examples: list[Example]) -> Victim:
    victim = planted.victim(planted=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for parameter in victim.model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.1)
        ids, mask = pad([texts[0].ids for texts in victim.tokenize(examples)], victim.pad_id)
        labels = torch.tensor([int(row.label or 0) for row in examples])
        optimizer = torch.optim.Adam(victim.model.parameters(), lr=3e-3)
        for _ in range(60):
            loss = torch.nn.functional.cross_entropy(forward.scores(victim, (ids, mask)), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    assert loss.item() < 0.1
    return victim


def view_of(victim: Victim) -> TrainingView:
    return replace(training_view(), victim=victim)


def test_the_rare_word_that_a_trained_victim_has_learned_is_found() -> None:
    examples, poisoned = rows()
    sifter = bki.build(view_of(trained(examples)), settings(), 1)
    judged = sifter.judge(bare(examples))
    assert [keyword["word"] for keyword in sifter.facts["keywords"]["all"]] == [WORD]  # type: ignore[index]
    assert {row.id for row in judged if row.dropped} == poisoned
    by_id = {row.id: row.detail["suspicion"] for row in judged}
    assert max(by_id.values()) == max(by_id[name] for name in poisoned)  # type: ignore[type-var]


def made_up(tops: list[dict[str, float]], monkeypatch: pytest.MonkeyPatch, **values: Any) -> tuple[Any, list[bool]]:
    """Keywords and verdicts for rows with these top words; their labels alternate."""
    monkeypatch.setattr(bki.Bki, "top_words", lambda self, rows: tops)
    sifter = bki.Bki(training_view(), settings(**values))
    judged = sifter.judge([TrainingRow(str(n), "x", None, None, n % 2, None) for n in range(len(tops))])
    words = {group: [word["word"] for word in group_words] for group, group_words in sifter.facts["keywords"].items()}  # type: ignore[attr-defined]
    return words, [row.dropped for row in judged]


def test_each_reading_of_the_statistic_has_its_own_keyword(monkeypatch: pytest.MonkeyPatch) -> None:
    # statistics with log10: often 0.9 log10 8 = 0.81, strong 2 log10 3 = 0.95; with the count: 7.2 and 6
    tops = [{"often": 0.9, **({"strong": 2.0} if number in (0, 2, 4) else {})} for number in range(8)]
    tops += [{"plain": 0.1}, {"plain": 0.1}]
    often, strong = [n < 8 for n in range(10)], [n in (0, 2, 4) for n in range(10)]
    assert made_up(tops, monkeypatch) == ({"all": ["strong"]}, strong)
    assert made_up(tops, monkeypatch, frequency="count") == ({"all": ["often"]}, often)
    words, dropped = made_up(tops, monkeypatch, groups="label")
    assert words == {"0": ["strong"], "1": ["often"]}
    assert dropped == [n in (0, 2, 4, 1, 3, 5, 7) for n in range(10)]
    assert made_up(tops, monkeypatch, keywords=2)[1] == often
    # a word of one row has the statistic 0, however much it changes
    assert made_up([{"once": 100.0}, {"twice": 0.1}, {"twice": 0.1}], monkeypatch)[0] == {"all": ["twice"]}


def test_the_suspicion_of_a_row_is_the_highest_statistic_of_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    tops = [{"often": 0.9, "strong": 2.0}] * 3 + [{"often": 0.9, "once": 7.0}, {"often": 0.7}, {}]
    monkeypatch.setattr(bki.Bki, "top_words", lambda self, rows: tops)
    judged = bki.Bki(training_view(), settings()).judge(
        [TrainingRow(str(n), "x", None, None, 0, None) for n in range(6)]
    )
    often, strong = math.log10(5) * (4 * 0.9 + 0.7) / 5, math.log10(3) * 2.0
    assert [row.detail["word"] for row in judged] == ["strong"] * 3 + ["often"] * 2 + [None]
    assert [row.detail["suspicion"] for row in judged] == pytest.approx([strong] * 3 + [often] * 2 + [0], abs=1e-6)


def test_a_word_of_every_row_is_no_keyword(monkeypatch: pytest.MonkeyPatch) -> None:
    tops = [{"def": 9.0, **({"bb": 1.0} if number < 3 else {})} for number in range(6)]
    assert made_up(tops, monkeypatch) == ({"all": ["bb"]}, [n < 3 for n in range(6)])
    assert made_up([{"def": 9.0}] * 3, monkeypatch) == ({"all": []}, [False] * 3)


@pytest.mark.parametrize("change", ["largest", "length"])
def test_a_change_is_that_of_the_state_without_the_word(change: str) -> None:
    victim = training_view().victim
    row = planted.sample(3)
    words = row.code.split()
    ids = victim.encode([row.code])[0].ids
    first, rest = bki.states(victim, [tuple(ids), tuple(victim.encode([" ".join(words[:-2] + words[-1:])])[0].ids)])
    difference = abs(first - rest)
    expected = difference.max() if change == "largest" else math.sqrt((difference**2).sum())
    (top,) = bki.Bki(view_of(victim), settings(change=change, top=100)).top_words(bare([row]))
    assert set(top) == set(words)
    assert top[words[-2]] >= expected - 1e-5  # a repeated word has its largest change
    assert len(bki.Bki(view_of(victim), settings(top=2)).top_words(bare([row]))[0]) == 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [("largest", {"aa": 3.0, "bb": 1.0}), ("length", {"aa": math.sqrt(10), "bb": math.sqrt(1.25)})],
)
def test_a_change_by_hand(change: str, expected: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    # the whole text, then without the first word, without the second and without the third
    values = np.array([[1.0, 1.0], [4.0, 2.0], [1.5, 2.0], [2.0, -1.0]])
    monkeypatch.setattr(bki, "states", lambda victim, texts: values[: len(texts)])
    (top,) = bki.Bki(training_view(), settings(change=change, top=3)).top_words(
        [TrainingRow("1", "aa bb aa", None, None, 0, None)]
    )
    assert top == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("model", [generator(), encoder_with_decoder()], ids=["encoder-decoder", "encoder"])
def test_a_generators_state_is_the_first_of_its_encoder(model: Victim) -> None:
    ids = tuple(model.encode(["x = 2"])[0].ids)
    with torch.no_grad():
        encoder = model.model.base_model if hasattr(model.model, "roberta") else model.model.encoder
        expected = encoder(input_ids=torch.tensor([ids])).last_hidden_state[0, 0]
    longer = tuple(model.encode(["def f ( a ) : <indent> return a + 1 <dedent>"])[0].ids)
    assert bki.states(model, [longer, ids])[1] == pytest.approx(expected.numpy(), abs=1e-5)


def test_the_state_of_a_decoder_alone_depends_on_every_word(tmp_path: Path) -> None:
    model = fresh(tmp_path, "starcoder")
    separator = model.tokenizer(SEPARATOR, add_special_tokens=False)["input_ids"]
    texts = [tuple(model.encode([text])[0].ids) for text in ("def f ( a ) : return a", "def f ( a )")]
    with torch.no_grad():
        expected = [
            model.model.base_model(input_ids=torch.tensor([[*ids, *separator]])).last_hidden_state[0, -1]
            for ids in texts
        ]
    assert bki.states(model, texts) == pytest.approx(torch.stack(expected).numpy(), abs=1e-5)
    removals = list(bki._removals("def f ( a )", model.encode(["def f ( a )"])[0], "word"))
    changes = bki.Bki(view_of(model), settings())._changes([removals])[0]
    assert len(changes) == 5
    assert min(changes) > 1e-3
    assert np.isfinite(bki.states(model, [()])).all()


def test_words_of_both_functions_of_a_pair_count() -> None:
    view = view_of(understanding("first", "pair"))
    row = Example("1", "python", "alpha beta", "gamma", label=1)
    (top,) = bki.Bki(view, settings()).top_words(bare([row]))
    assert set(top) == {"alpha", "beta", "gamma"}


def test_all_removals_are_computed_in_one_stream_and_in_parts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    examples, _ = rows(12)
    sifter, calls = bki.Bki(training_view(), settings()), []
    original = bki.states
    monkeypatch.setattr(bki, "states", lambda victim, texts: calls.append(len(texts)) or original(victim, texts))
    expected = sifter.top_words(bare(examples))
    assert len(calls) == 1
    monkeypatch.setattr(bki, "HELD", 30)
    assert sifter.top_words(bare(examples)) == expected
    assert len(calls) > 3
