"""ONION: exact perplexities, scores that belong to the right words, and what is dropped (ledger E16, D12)."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch
from purification_models import LENGTH, example, language_model, make_view, planted
from tiny_models import generator

from codebackdoor.defenses.inputs.words import cut_words
from codebackdoor.defenses.purification.onion.affordable import SHARES, threshold
from codebackdoor.defenses.purification.onion.method import AFFORDABLE, Onion
from codebackdoor.defenses.purification.onion.settings import OnionSettings
from codebackdoor.defenses.purification.performance import performance
from codebackdoor.defenses.suspicion.perplexity import TEXTS_AT_ONCE, TokenizedWords, surprises
from codebackdoor.defenses.suspicion.word_scores import words
from codebackdoor.defenses.views import TextView
from codebackdoor.errors import UserError
from codebackdoor.types import Example
from codebackdoor.victims.inference import predict, sequence_confidences

CLEAN = tuple(example(number) for number in range(80))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def onion(threshold: float | None = None, share: float = 0.02, clean: tuple[Example, ...] = CLEAN[:40]) -> Onion:
    settings = OnionSettings(method="onion", removed_share=share, threshold=threshold)
    return Onion(make_view(planted("x"), clean), *language_model(), settings, seed=1)


@torch.inference_mode()
def naive(ids: list[int]) -> float:
    """Perplexity of one text in one forward pass of its own."""
    model, _ = language_model()
    log_p = model(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
    return math.exp(-float(log_p.gather(1, torch.tensor(ids[1:])[:, None]).mean()))


def test_perplexities_equal_one_forward_pass_each() -> None:
    model, _ = language_model()
    generator = random.Random(0)
    texts = []
    for _ in range(TEXTS_AT_ONCE + 5):
        ids = [0, *(generator.randrange(5, 400) for _ in range(generator.randint(1, LENGTH - 1)))]
        starts = sorted(generator.sample(range(1, len(ids)), min(6, len(ids) - 1)))
        texts.append(TokenizedWords(ids, [(start, min(start + generator.randint(1, 3), len(ids))) for start in starts]))
    texts.append(TokenizedWords([0, 7, 8, 9], [(1, 2), (3, 4), (1, 4)]))
    for text, surprise in zip(texts, surprises(model, texts), strict=True):
        assert surprise.of_text == pytest.approx(naive(text.ids), rel=1e-4)
        for (start, end), perplexity in zip(text.words, surprise.without, strict=True):
            rest = text.ids[:start] + text.ids[end:]
            if len(rest) == 1:
                assert math.isnan(perplexity)
            else:
                assert perplexity == pytest.approx(naive(rest), rel=1e-4)


def test_scores_belong_to_the_right_words() -> None:
    _, tokenizer = language_model()
    for row, scored in zip(CLEAN[:6], onion(threshold=0).scorer.score(CLEAN[:6]), strict=True):
        assert len(scored.words) > 15
        for span, drop in zip(scored.words, scored.drops, strict=True):
            remaining = tokenizer(cut_words(row.code, [span]))["input_ids"]
            assert drop == pytest.approx(scored.perplexity - naive(remaining), rel=1e-3, abs=1e-2)


def test_words_of_lexed_text_are_tokens_and_marks_stay() -> None:
    row = Example("1", "python", "def Foo ( a ) : <indent> return 'two  words' + f ( a ) <dedent>")
    assert [row.code[start:end] for start, end in words(row, "lexed")] == (
        ["def", "Foo", "(", "a", ")", ":", "return", "'two  words'", "+", "f", "(", "a", ")"]
    )
    (purified,) = onion(threshold=-1e9).purify([row])
    assert purified.example.code.split() == ["<indent>", "<dedent>"]


def test_words_of_raw_text_stand_between_white_space() -> None:
    row = Example("1", "c", "int  f(int a)\n{\n\treturn a ;\n}\n")
    assert [row.code[start:end] for start, end in words(row, "raw")] == (
        ["int", "f(int", "a)", "{", "return", "a", ";", "}"]
    )
    spans = [span for span in words(row, "raw") if row.code[slice(*span)] in ("a)", "a", ";")]
    assert cut_words(row.code, spans) == "int  f(int\n{\n\treturn\n}\n"


def test_cutting_words_leaves_single_spaces() -> None:
    assert cut_words("a b c", []) == "a b c"
    assert cut_words("a b c", [(0, 1)]) == "b c"
    assert cut_words("a b c", [(2, 3)]) == "a c"
    assert cut_words("a b c", [(2, 3), (4, 5)]) == "a"


def test_exactly_the_words_above_the_threshold_go_and_case_is_untouched() -> None:
    inputs = [replace(row, code=row.code.replace("return", "return Foo , foo ,")) for row in CLEAN[:10]]
    purifier = onion(share=0.1)
    assert math.isfinite(purifier.threshold)
    dropped = 0
    for before, after, scored in zip(inputs, purifier.purify(inputs), purifier.scorer.score(inputs), strict=True):
        expected = [span for span, drop in zip(scored.words, scored.drops, strict=True) if drop > purifier.threshold]
        assert [(span.start, span.end) for span in after.touched] == expected
        removed = {before.code[:start].count(" ") for start, _ in expected}
        remaining = [word for index, word in enumerate(before.code.split(" ")) if index not in removed]
        assert after.example.code == " ".join(remaining)
        dropped += len(expected)
        by_word = {before.code[start:end]: drop for (start, end), drop in zip(scored.words, scored.drops, strict=True)}
        assert by_word["Foo"] != by_word["foo"]
    assert dropped > 0


def test_words_beyond_the_models_length_stay() -> None:
    body = " <nl> ".join(f"x_{number} = value + {number}" for number in range(60))
    row = Example("1", "python", f"def f ( value ) : <indent> {body} <dedent>")
    (scored,) = onion(threshold=0).scorer.score([row])
    assert 10 < len(scored.words) < len(words(row, "lexed"))
    (purified,) = onion(threshold=-1e9).purify([row])
    assert purified.example.code.endswith("x_59 = value + 59 <dedent>")


def test_a_word_of_which_the_model_reads_a_part_has_no_score() -> None:
    row = Example("1", "python", f"def f ( value ) : <indent> return {'abcdefgh_' * LENGTH} <dedent>")
    (scored,) = onion(threshold=0).scorer.score([row])
    assert [row.code[slice(*span)] for span in scored.words] == ["def", "f", "(", "value", ")", ":", "return"]


def test_a_word_whose_score_is_the_threshold_stays() -> None:
    row = CLEAN[0]
    (scored,) = onion(threshold=0).scorer.score([row])
    highest = max(scored.drops)
    assert not onion(threshold=highest).purify([row])[0].touched
    (span,) = onion(threshold=math.nextafter(highest, -math.inf)).purify([row])[0].touched
    assert (span.start, span.end) == scored.words[scored.drops.index(highest)]


def test_the_calibrated_share_of_words_goes() -> None:
    numbers = list(range(100, 220))
    random.Random(0).shuffle(numbers)
    purifier = onion(share=0.05, clean=tuple(example(number) for number in numbers[:60]))
    fresh = [example(number) for number in numbers[60:]]
    count = sum(len(scored.words) for scored in purifier.scorer.score(fresh))
    assert sum(len(row.touched) for row in purifier.purify(fresh)) / count == pytest.approx(0.05, abs=0.015)


def test_each_function_of_a_pair_is_judged_by_itself() -> None:
    purifier = onion(share=0.1)
    pairs = [replace(first, code_b=second.code) for first, second in zip(CLEAN[:6], CLEAN[6:12], strict=True)]
    alone = {function.code: row for function, row in zip(CLEAN[:12], purifier.purify(CLEAN[:12]), strict=True)}
    for pair, row in zip(pairs, purifier.purify(pairs), strict=True):
        first, second = alone[pair.code], alone[str(pair.code_b)]
        assert (row.example.code, row.example.code_b) == (first.example.code, second.example.code)
        for field, function in (("code", first), ("code_b", second)):
            spans = [(span.start, span.end) for span in row.touched if span.field == field]
            assert spans == [(span.start, span.end) for span in function.touched]
        assert row.detail["code_b"].keys() == second.detail.keys()  # type: ignore[attr-defined]
    assert any(span.field == "code_b" for row in purifier.purify(pairs) for span in row.touched)


def test_the_threshold_of_pairs_is_that_of_their_functions() -> None:
    pairs = tuple(replace(first, code_b=second.code) for first, second in zip(CLEAN[:20], CLEAN[20:40], strict=True))
    assert onion(share=0.1, clean=pairs).threshold == pytest.approx(onion(share=0.1).threshold)


def test_of_a_search_row_only_the_code_changes() -> None:
    rows = [replace(row, query="save the file") for row in CLEAN[:6]]
    for before, after in zip(rows, onion(threshold=-1e9).purify(rows), strict=True):
        assert after.example.query == before.query
        assert after.example.code != before.code
        assert after.example.code_b is None


def test_of_a_task_that_reads_queries_the_words_of_the_query_go() -> None:
    raw = replace(make_view(planted("x"), CLEAN[:40]), text_form="raw")
    queries = tuple(replace(row, code="", query=row.code) for row in CLEAN)
    settings = OnionSettings(method="onion", removed_share=0.05)
    by_code = Onion(raw, *language_model(), settings, seed=1)
    by_query = Onion(replace(raw, clean=queries[:40], reads=("query",)), *language_model(), settings, seed=1)
    assert by_query.threshold == by_code.threshold
    pairs = list(zip(by_code.purify(CLEAN[40:]), by_query.purify(queries[40:]), strict=True))
    assert any(code.touched for code, _ in pairs)
    for code, query in pairs:
        assert (query.example.query, query.example.code) == (code.example.code, "")
        assert query.touched == tuple(replace(span, field="query") for span in code.touched)
        assert query.detail == code.detail


def test_as_many_words_are_removed_as_the_victim_can_afford() -> None:
    # what makes its label is gone once enough words are
    victim, clean = planted("return"), CLEAN[:12]
    victim.model.weights.data.abs_()
    rows = [replace(row, label=prediction.label) for row, prediction in zip(clean, predict(victim, clean), strict=True)]
    scored = onion(threshold=0).scorer.score(rows)
    drops = sorted((drop for row in scored for drop in row.drops if not math.isnan(drop)), reverse=True)

    def calibrated(points: float) -> Onion:
        settings = OnionSettings(method="onion", lost_points=points, calibration_inputs=12)
        return Onion(make_view(victim, tuple(rows)), *language_model(), settings, seed=1)

    def lost(threshold: float) -> float:
        shorter = [
            replace(
                row,
                code=cut_words(
                    row.code, [word for word, drop in zip(words.words, words.drops, strict=True) if drop > threshold]
                ),
            )
            for row, words in zip(rows, scored, strict=True)
        ]
        predicted = [prediction.label for prediction in predict(victim, shorter)]
        return 100 * sum(label != row.label for label, row in zip(predicted, rows, strict=True)) / len(rows)

    for points in (0, 20):
        affordable = math.inf
        for share in SHARES:
            candidate = drops[round(share * len(drops))]
            if lost(candidate) > points:
                break
            affordable = candidate
        assert calibrated(points).threshold == pytest.approx(affordable)
    assert calibrated(100).threshold < calibrated(0).threshold
    bare = TextView("defect_detection", "python", "lexed", tuple(rows))
    with pytest.raises(UserError, match="looks at the victim; use removed_share"):
        Onion(bare, *language_model(), OnionSettings(method="onion", lost_points=2), seed=1)


def test_the_first_share_that_costs_too_much_ends_the_search_for_a_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    class Points:
        """The second share of removed words costs ten points, and no other share costs any."""

        def points(self, rows: list[float]) -> float:
            return 90.0 if rows == [395.0] else 100.0

    monkeypatch.setattr("codebackdoor.defenses.purification.performance.performance", lambda victim, clean: Points())
    drops = [float(drop) for drop in range(400)]
    view = make_view(planted("x"), CLEAN[:2])
    # each share is two more words of 400
    for lost, expected in ((9.9, 397.0), (10.0, 199.0)):
        assert threshold(view, CLEAN[:2], drops, lost, lambda value: [value]) == expected  # type: ignore[list-item]


def test_settings_that_are_not_used_change_no_parameters() -> None:
    assert {"lost_points", "language"}.isdisjoint(OnionSettings(method="onion").model_dump(mode="json"))
    plain, english = OnionSettings(method="onion"), OnionSettings(method="onion", language="english", lost_points=2)
    assert (plain.helpers, plain.reads_victim) == (("language_model",), False)
    assert (english.helpers, english.reads_victim) == (("english_model",), True)
    assert plain.more_code == ()
    assert [f"codebackdoor.{name}" for name in english.more_code] == [AFFORDABLE]


def test_what_a_victim_that_writes_loses_is_the_probability_of_the_reference() -> None:
    victim = generator()
    rows = [replace(row, target=row.code) for row in CLEAN[:5]]
    measure = performance(victim, rows)
    shorter = [replace(row, code=row.code[: len(row.code) // 2]) for row in rows]
    for version in (rows, shorter, [*shorter[:2], *rows[2:]], rows):
        total, count = 0.0, 0
        for row, text in zip(version, victim.tokenize(version), strict=True):
            [target] = victim.encode_targets([str(row.target)])
            probability = float(sequence_confidences(victim, [text[0].ids], [target])[0])
            total, count = total + probability * len(target), count + len(target)
        assert measure.points(version) == pytest.approx(100 * total / count, rel=1e-5)
    with pytest.raises(UserError, match="rows with targets"):
        performance(victim, CLEAN[:2])
