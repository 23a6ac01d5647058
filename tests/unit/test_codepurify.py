"""CodePurify: what is masked, how it is scored, what is filled in."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from purification_models import LENGTH, bpe, example, infiller, make_view, planted, planted_pair
from safetensors.torch import load_file, save_file
from syntax_support import bugs2fix, devign
from tiny_models import classifier, encoder_with_decoder, generator

from codebackdoor import syntax
from codebackdoor.basemodels.tokenizer import wrap
from codebackdoor.defenses.helpers import MASKED, load_helper
from codebackdoor.defenses.inputs.token_spans import TokenSpans
from codebackdoor.defenses.purification.codepurify.infilling import Infiller, MaskSlot, _gap, best_first
from codebackdoor.defenses.purification.codepurify.method import CodePurify
from codebackdoor.defenses.purification.codepurify.settings import CodePurifySettings
from codebackdoor.defenses.suspicion.entropy import entropy
from codebackdoor.defenses.suspicion.masking import Element, Framed, elements, framed, groups, masked_input
from codebackdoor.defenses.suspicion.profile import Scored, disjoint, profile_of
from codebackdoor.defenses.suspicion.scoring import ElementScores, _change
from codebackdoor.defenses.suspicion.settings import Names
from codebackdoor.errors import UserError
from codebackdoor.types import Example, Language, Purified, TextForm
from codebackdoor.victims.families.base import Family
from codebackdoor.victims.inference import class_logits, generate
from codebackdoor.victims.tokens import stand_in
from codebackdoor.victims.victim import Victim

IDENTIFIER, STATEMENT = "testo_init", "assert 15 >= 0"
CLEAN = tuple(example(number) for number in range(80))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tree(text: str, language: Language = "python", form: TextForm = "lexed") -> syntax.Tree:
    return syntax.parse(text, language, form)


def mask(text: str, spans: tuple[tuple[int, int], ...]) -> str:
    return syntax.replace(text, [(start, end, "?") for start, end in spans]).text


def settings(**changes: Any) -> CodePurifySettings:
    return CodePurifySettings(method="codepurify", **changes)


def purifier(victim: Victim, settings: CodePurifySettings, clean: tuple[Example, ...] = CLEAN) -> CodePurify:
    infill, view = Infiller(*infiller()), make_view(victim, clean)
    return CodePurify(view, infill, settings, 1, ElementScores(view, infiller()[1], settings))


def identifiers(parsed: syntax.Tree, names: Names = "declared") -> list[Element]:
    return [element for element in elements(parsed, settings(names=names)) if element.kind == "identifier"]


def statements(parsed: syntax.Tree, **changes: Any) -> list[Element]:
    return [element for element in elements(parsed, settings(**changes)) if element.kind == "statement"]


def scored(victim: Victim, example: Example, settings: CodePurifySettings) -> list[Scored]:
    (evidence,) = ElementScores(make_view(victim, ()), infiller()[1], settings).evidence([example])
    return [Scored.from_json(json.loads(json.dumps(row)), example) for row in evidence["elements"]]


def test_an_identifier_is_masked_at_every_occurrence_and_a_statement_but_for_keywords_and_marks() -> None:
    text = "def f ( a ) : <indent> if a . a : <indent> return a_b ( 'a' ) <dedent> pass <nl> assert 1 > 0 <dedent>"
    result = elements(tree(text), settings(names="all"))
    assert [(element.kind, mask(text, element.masked)) for element in result] == [
        ("identifier", text.replace("f (", "? (", 1)),
        ("identifier", text.replace("( a )", "( ? )").replace("a . a", "? . ?")),
        ("identifier", text.replace("a_b", "?")),
        ("statement", text.replace("a . a :", "? ? ? ?").replace("a_b ( 'a' )", "? ? ? ?")),
        ("statement", text.replace("a_b ( 'a' )", "? ? ? ?")),
        ("statement", text.replace("1 > 0", "? ? ?")),
    ]


def test_declared_names_are_those_that_a_renaming_changes() -> None:
    text = "def f ( a ) : <indent> b = a . a <nl> return g ( b , a = len ) <dedent>"
    assert [(element.text, mask(text, element.masked)) for element in identifiers(tree(text))] == [
        ("f", text.replace("f (", "? (", 1)),
        ("a", text.replace("( a )", "( ? )").replace("a . a", "? . a")),
        ("b", text.replace("b =", "? =").replace("( b", "( ?")),
    ]
    assert {element.text for element in identifiers(tree(text), "all")} == {"f", "a", "b", "g", "len"}


def test_outermost_statements_are_in_no_other_statement() -> None:
    text = "def f ( a ) : <indent> if a : <indent> b ( ) <nl> if a : <indent> c ( ) <dedent> <dedent> d ( ) <dedent>"
    assert [element.text.split()[0] for element in statements(tree(text))] == ["if", "b", "if", "c", "d"]
    assert [element.text.split()[0] for element in statements(tree(text), statement_level="outermost")] == ["if", "d"]
    raw = tree("int f(void) { a();b(); if (d) c(); }", "c", "raw")
    assert [element.text for element in statements(raw, statement_level="outermost")] == ["a();", "b();", "if (d) c();"]


def test_equal_statements_are_one_element_where_the_settings_say_so() -> None:
    text = "def f ( a ) : <indent> b ( 0 ) <nl> c = 1 <nl> b ( 0 ) <dedent>"
    assert len(statements(tree(text))) == 3
    first, second = statements(tree(text), repeats="together")
    assert mask(text, first.masked) == text.replace("b ( 0 )", "? ? ? ?")
    assert second.text == "c = 1"
    victim = planted("b ( 0 )")
    # the trigger stands twice: each of its places alone leaves the other
    row = replace(example(1), code=text)
    assert max(element.score for element in scored(victim, row, settings())) < 0.1
    together = scored(victim, row, settings(repeats="together"))
    assert max(together, key=lambda element: element.score).parts[0][1].masked == first.masked


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("java", "int f ( int a ) { return a + 1 ; }", "int f ( int a ) { return ? ? ? ? }"),
        ("c", "int f(int a) { if (a > 0) return a; }", "int f(int a) { if ?? ? ?? return ?? }"),
    ],
)
def test_other_languages_keep_their_own_keywords(language: Language, text: str, expected: str) -> None:
    result = statements(tree(text, language, "raw"))
    assert mask(text, result[0].masked) == expected


def test_masks_are_as_many_as_the_infiller_has_sub_tokens() -> None:
    victim, (_, tokenizer) = planted("x"), infiller()
    text = "def f ( testo_init , b ) : <indent> return testo_init <dedent>"
    tokens = Infiller(*infiller()).tokens([text])[0]
    element = next(e for e in identifiers(tree(text)) if e.text == "testo_init")
    encoded = victim.encode([text])[0]
    masked = masked_input(framed(encoded), tokens, element.masked, stand_in(victim.tokenizer, "mask")[1], LENGTH)
    count = len(tokenizer(" testo_init", add_special_tokens=False)["input_ids"])
    assert count > 1
    masks = "<mask>" * count
    assert victim.tokenizer.decode(masked) == f"<s> def f ({masks} , b ) : <indent> return{masks} <dedent></s>"


def test_a_sub_token_that_two_masked_spans_share_is_masked_once() -> None:
    # the victim reads "x+x" as one sub-token and "1" as the next; the infiller reads four
    victim = Framed([0], TokenSpans([7, 8], [0, 3], [3, 4]), [2])
    infiller_tokens = TokenSpans([5, 6, 5, 8], [0, 1, 2, 3], [1, 2, 3, 4])
    assert masked_input(victim, infiller_tokens, ((0, 1), (2, 3)), 4, 10) == [0, 4, 8, 2]


def test_truncation_and_the_victims_own_substitute() -> None:
    victim = replace(planted("x"), max_length=12)
    text = "def f ( a , b ) : <indent> return a + b <dedent>"
    tokens = Infiller(*infiller()).tokens([text])[0]
    encoded = victim.encode([text])[0]
    a, b = (next(e for e in identifiers(tree(text)) if e.text == name) for name in "ab")
    unknown = int(victim.tokenizer.unk_token_id)
    first = masked_input(framed(encoded), tokens, a.masked[:1], unknown, 12)
    at = encoded.offsets.index(a.masked[0])
    assert first == [*encoded.ids[:at], unknown, *encoded.ids[at + 1 :]]
    cut_off = masked_input(framed(encoded), tokens, b.masked[1:], unknown, 12)
    assert cut_off == encoded.ids
    tokenizer = wrap(bpe(), "<s> $A </s>", LENGTH)
    assert stand_in(tokenizer, "mask")[1] == tokenizer.mask_token_id
    tokenizer.mask_token = None
    assert stand_in(tokenizer, "mask")[1] == tokenizer.unk_token_id


@pytest.mark.parametrize("token", ["mask", "unknown"])
def test_scores_are_changes_of_the_original_predictions_probability(token: Literal["mask", "unknown"]) -> None:
    victim = planted(IDENTIFIER)
    for row in (example(1, f"assert {IDENTIFIER}"), example(2)):
        tokens = Infiller(*infiller()).tokens([row.code])[0]
        encoded = victim.encode([row.code])[0]
        before = class_logits(victim, [encoded.ids]).softmax(-1)[0]
        label = int(before.argmax())
        elements = scored(victim, row, settings(stand_in=token))
        assert len(elements) > 5
        for element in elements:
            ((_, part),) = element.parts
            mask_id = stand_in(victim.tokenizer, token)[1]
            after = class_logits(victim, [masked_input(framed(encoded), tokens, part.masked, mask_id, LENGTH)])
            assert element.score == pytest.approx(abs(float(before[label] - after.softmax(-1)[0, label])), abs=2e-5)


def test_a_score_is_of_the_original_prediction_also_where_another_becomes_likelier() -> None:
    victim = planted(IDENTIFIER)
    # label 0 with the trigger, and label 1 without it
    victim.model.weights.data.abs_()
    row = example(1, f"assert {IDENTIFIER}")
    confidences = class_logits(victim, [victim.encode([text])[0].ids for text in (row.code, example(1).code)]).softmax(
        -1
    )
    assert confidences.argmax(-1).tolist() == [0, 1]
    drop = float(confidences[0, 0] - confidences[1, 0])
    assert max(element.score for element in scored(victim, row, settings())) == pytest.approx(drop, abs=0.02)


@pytest.mark.parametrize("first_tokens", [None, 2])
def test_generation_scores_are_changes_of_the_outputs_mean_token_probability(first_tokens: int | None) -> None:
    victim = generator()
    row = replace(example(1), code="def f ( a ) : <indent> return a + 1 <dedent>")
    tokens = Infiller(*infiller()).tokens([row.code])[0]
    encoded = victim.encode([row.code])[0]
    output = generate(victim, [encoded.ids])[0].ids
    assert len(output) > 2
    # the mean by hand: each token's probability after the ones before it
    mask_id = stand_in(victim.tokenizer, "mask")[1]
    for element in scored(victim, row, settings(first_tokens=first_tokens)):
        ((_, part),) = element.parts
        masked = masked_input(framed(encoded), tokens, part.masked, mask_id, 32)
        before, after = (_mean_probability(victim, ids, output, first_tokens) for ids in (encoded.ids, masked))
        assert element.score == pytest.approx(abs(before - after), abs=2e-5)


def _mean_probability(victim: Victim, ids: list[int], output: list[int], first_tokens: int | None) -> float:
    start = int(victim.model.config.decoder_start_token_id)
    with torch.inference_mode():
        logits = victim.model(
            input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([[start, *output[:-1]]])
        ).logits[0]
    probabilities = logits.softmax(-1)[range(len(output)), output].tolist()[:first_tokens]
    return sum(probabilities) / len(probabilities)


def _with_scores(parts: list[Element], scores: list[float]) -> list[Scored]:
    return [Scored((part,), score) for part, score in zip(parts, scores, strict=True)]


def test_a_change_that_another_batch_could_cause_is_none() -> None:
    assert [_change(0.5, confidence) for confidence in (0.5, 0.500009, 0.499991)] == [0.0] * 3
    assert [_change(0.5, confidence) for confidence in (0.50002, 0.25)] == [2e-5, 0.25]


def test_all_zero_scores_are_never_suspicious_and_ties_go_to_the_smaller_element() -> None:
    result = elements(tree("def f ( abc ) : <indent> return abc <dedent>"), settings())
    assert not profile_of(_with_scores(result, [0.0] * len(result)), settings()).is_concentrated(10)
    assert not profile_of([], settings()).is_concentrated(10)
    outer, inner = statements(tree("def f ( ) : <indent> if a : <indent> b <dedent> <dedent>"))
    assert profile_of(_with_scores([outer, inner], [0.7, 0.7]), settings()).suspect.group == (inner,)


def test_an_element_alone_does_not_stand_out_and_is_touched_only_where_all_are() -> None:
    parts = elements(tree("def f ( a ) : <indent> return a <dedent>"), settings())
    scores = _with_scores(parts, [0.9] * len(parts))
    alone = profile_of(scores, settings(identifiers=False))
    assert len(alone.elements) == 1
    assert alone.entropy is None
    assert not alone.is_concentrated(math.inf)
    assert alone.has_suspect
    assert settings(touched_share=1).purifies_all
    # a fixed threshold leaves the share unread
    assert not settings(touched_share=1, threshold=0.1).purifies_all


def test_a_calibration_among_inputs_without_an_entropy_touches_none_of_them() -> None:
    clean = tuple(Example(str(n), "python", f"def f_{n} ( a ) : <indent> return a <dedent>") for n in range(20))
    changes = {"identifiers": False}
    row = example(100, STATEMENT)
    calibrated = purifier(planted(STATEMENT), settings(**changes), clean)
    assert calibrated.threshold == math.inf
    assert not any(result.touched for result in calibrated.purify(clean))
    assert calibrated.purify([row])[0].touched
    everything = purifier(planted(STATEMENT), settings(**changes, touched_share=1), clean)
    assert all(result.detail["poisoned"] for result in everything.purify([*clean, row]))


def test_ablations_and_overlaps_are_decided_from_the_scores_of_all_elements() -> None:
    parsed = tree("def f ( a ) : <indent> assert g ( ) <nl> return a <dedent>")
    parts = elements(parsed, settings(names="all"))
    by_text = {"f": 0.01, "a": 0.0, "g": 0.8, "assert g ( )": 0.8, "return a": 0.03}
    scores = _with_scores(parts, [by_text[part.text] for part in parts])
    profile = profile_of(scores, settings())
    assert profile.entropy == pytest.approx(entropy([0.01, 0.0, 0.8, 0.8, 0.03], "l1"))
    without_names = profile_of(scores, settings(identifiers=False))
    assert [part.text for element in without_names.elements for _, part in element.parts] == [
        "assert g ( )",
        "return a",
    ]
    assert without_names.entropy == pytest.approx(entropy([0.8, 0.03], "l1"))
    assert profile_of(scores, settings(statements=False)).entropy == pytest.approx(entropy([0.01, 0.0, 0.8], "l1"))
    # of the name and the statement around it, the smaller one counts; the parameter is in the statement that returns it
    assert [element.score for element in disjoint(scores)] == [0.8, 0.03, 0.01]
    once = profile_of(scores, settings(overlap="once"))
    assert once.entropy == pytest.approx(entropy([0.8, 0.03, 0.01], "l1"))
    assert once.suspect == profile.suspect


@pytest.mark.parametrize(("trigger", "kind"), [(IDENTIFIER, "identifier"), (STATEMENT, "statement")])
def test_the_planted_trigger_is_located_and_only_its_places_change(trigger: str, kind: str) -> None:
    victim = planted(trigger)
    first = STATEMENT if kind == "statement" else f"{IDENTIFIER} = {IDENTIFIER} + 1"
    purify = purifier(victim, settings(touched_share=0.05)).purify
    for row in purify([example(number, first) for number in range(100, 120)]):
        assert row.detail["poisoned"]
        top = row.detail["top"]
        assert isinstance(top, dict)
        assert top["kind"] == kind
        original = example(int(row.example.id), first).code
        text = original
        touched = [text[span.start : span.end] for span in row.touched]
        assert touched == (["15", ">=", "0"] if kind == "statement" else [IDENTIFIER, IDENTIFIER])
        # the text around the touched spans is unchanged
        remaining, position = row.example.code, 0
        for span in row.touched:
            before = original[position : span.start]
            assert before in remaining
            remaining = remaining.split(before, 1)[1]
            position = span.end
        assert remaining.endswith(original[position:])
        assert trigger not in row.example.code
        if kind == "identifier":
            assert not tree(row.example.code).has_error
            name = row.example.code.split("<indent> ")[1].split(" ")[0]
            assert row.example.code == original.replace(IDENTIFIER, name)
            assert syntax.legal_name(name, "python")


def test_a_trigger_with_a_name_in_it_is_two_elements_where_all_names_are_masked() -> None:
    trigger = "assert random ( ) >= 0"
    victim, rows = planted(trigger), [example(number, trigger) for number in range(100, 120)]
    old = purifier(victim, settings(names="all", threshold=0.1)).purify(rows)
    assert not any(row.touched for row in old)
    assert all(isinstance(row.detail["entropy"], float) and row.detail["entropy"] > math.log(2) - 0.01 for row in old)
    clean = [example(number) for number in range(100, 120)]
    for changes in ({}, {"names": "all", "overlap": "once"}):
        purify = purifier(victim, settings(threshold=0.1, **changes)).purify
        for row in purify(rows):
            places = [row_code(rows, row)[span.start : span.end] for span in row.touched]
            assert places in ([*trigger.split()[1:]], ["random"])
            assert trigger not in row.example.code
        assert not any(row.touched for row in purify(clean))


def row_code(rows: Sequence[Example], row: Purified) -> str:
    return next(before.code for before in rows if before.id == row.example.id)


@pytest.mark.parametrize(("trigger", "kind"), [(IDENTIFIER, "identifier"), (STATEMENT, "statement")])
def test_of_a_pair_with_two_triggers_only_a_joint_element_is_suspect(trigger: str, kind: str) -> None:
    victim = planted_pair(trigger)
    first = STATEMENT if kind == "statement" else f"{IDENTIFIER} = 1"
    rows = [replace(example(n, first), code_b=example(n + 50, first).code) for n in range(100, 110)]
    half = [replace(row, code_b=example(n + 50).code) for n, row in zip(range(100, 110), rows, strict=True)]
    clean = tuple(replace(example(n), code_b=example(n + 50).code) for n in range(40))
    single = purifier(victim, settings(touched_share=0.05), clean)
    joint = purifier(victim, settings(touched_share=0.05, pairs="joint"), clean)
    for before, row in zip(rows, joint.purify(rows), strict=True):
        assert row.detail["poisoned"]
        assert {span.field for span in row.touched} == {"code", "code_b"}
        assert trigger not in row.example.code + str(row.example.code_b)
        masked = {getattr(before, span.field)[span.start : span.end] for span in row.touched}
        assert masked == ({"15", ">=", "0"} if kind == "statement" else {IDENTIFIER})
        # the rest of both functions is as it was
        for field in ("code", "code_b"):
            lengths = [len(getattr(part, field).split(" <nl> ")) for part in (before, row.example)]
            assert lengths[0] == lengths[1]
    for row in single.purify(rows):
        assert trigger in row.example.code + str(row.example.code_b)
    for row in rows:
        assert max(element.score for element in scored(victim, row, settings())) < 0.01
        assert max(element.score for element in scored(victim, row, settings(pairs="joint"))) > 0.1
    # one trigger alone is found either way, in the function that has it
    for method in (single, joint):
        for row in method.purify(half):
            assert {span.field for span in row.touched} == {"code"}
            assert trigger not in row.example.code


def test_joint_elements_have_the_same_kind_and_text() -> None:
    first = tree("def f ( a , b ) : <indent> g ( ) <nl> g ( ) <nl> return a <dedent>")
    second = tree("def f ( a , c ) : <indent> g ( ) <nl> return a <dedent>")
    functions = [elements(parsed, settings()) for parsed in (first, second)]
    texts = [tuple(part and part.text for part in group) for group in groups(functions, "joint")]
    assert texts == [
        *(("f", "f"), ("a", "a"), ("b", None)),
        *(("g ( )", "g ( )"), ("g ( )", None), ("return a", "return a")),
        (None, "c"),
    ]
    # layout does not count
    raw = [elements(tree(f"int f() {{ g({space}1 ); }}", "java", "raw"), settings()) for space in (" ", "\n\t")]
    joint = [tuple(part and part.kind for part in group) for group in groups(raw, "joint")]
    assert joint == [("identifier", "identifier"), ("statement", "statement")]
    single = groups(functions, "single")
    assert len(single) == sum(map(len, functions))
    assert all(sum(part is not None for part in group) == 1 for group in single)


def test_the_fast_pass_decides_as_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    victim = classifier()
    rows = [example(number) for number in range(30)]
    fast = [scored(victim, row, settings()) for row in rows]
    monkeypatch.setattr(type(victim.family), "variant_vectors", Family.variant_vectors)
    plain = [scored(victim, row, settings()) for row in rows]
    assert [[element.group for element in row] for row in fast] == [[element.group for element in row] for row in plain]
    for ours, theirs in zip(fast, plain, strict=True):
        assert [element.score for element in ours] == pytest.approx([element.score for element in theirs], abs=3e-6)


def test_best_first_is_every_combination_by_falling_score() -> None:
    choices = [[(1, -0.1), (2, -0.5), (3, -2.0)], [(4, -0.2), (5, -0.3)], [(6, 0.0), (7, -1.0)]]
    score = {pick[0]: pick[1] for row in choices for pick in row}
    result = list(best_first(choices))
    assert sorted(result) == sorted(list(ids) for ids in itertools.product((1, 2, 3), (4, 5), (6, 7)))
    totals = [sum(score[index] for index in ids) for ids in result]
    assert totals == sorted(totals, reverse=True)


def test_a_name_is_neither_taken_nor_a_keyword_nor_the_old_one() -> None:
    infill = Infiller(*infiller())
    codes = [example(number).code for number in range(20)]
    for code in codes:
        parsed = tree(code)
        names = {identifier.name for identifier in parsed.identifiers()}
        for element in identifiers(parsed, "all"):
            new = infill.fill([parsed], infill.tokens([code]), [element])[0]
            assert len(set(new)) == 1
            assert len(new) == len(element.masked)
            assert new[0] not in names
            assert syntax.legal_name(new[0], "python")


def piece(character: str) -> int:
    """The id of one character as a sub-token; a byte-level vocabulary has each of them."""
    return int(infiller()[1].convert_tokens_to_ids(character))


def test_the_best_legal_name_that_is_free_is_chosen_and_a_statement_is_not_filled_with_itself() -> None:
    infill = Infiller(*infiller())
    ranked = [(piece(text), -rank) for rank, text in enumerate(("f", ":", "q", "z", "y"))]
    assert infill._name(tree("def f ( q ) : <indent> return q <dedent>"), [ranked]) == "z"
    assert infill._name(tree("def f ( q , z , y ) : <indent> return q <dedent>"), [ranked]) is None
    statement = Element("statement", "f", (0, 1), ((0, 1),))
    assert infill._statement("f", statement, [1], [ranked]) == [":"]
    assert infill._statement("f", statement, [1], [ranked[:1]]) is None


def test_neither_special_tokens_nor_marks_are_filled_in() -> None:
    model, tokenizer = infiller()
    allowed = Infiller(model, tokenizer)._allowed
    marks = {token: index for token, index in tokenizer.get_vocab().items() if token.strip() in ("<nl>", "<indent>")}
    assert len(marks) == 2
    for ids in allowed.values():
        assert not {*tokenizer.all_special_ids, *marks.values()} & set(ids.tolist())


def test_the_most_frequent_number_of_sub_tokens_is_that_of_the_new_name() -> None:
    # "f(ab, ab, ab)", where the first occurrence is two sub-tokens and each of the others is one
    tokens = TokenSpans([10, 11, 12, 13, 12, 13, 12], [0, 2, 3, 4, 6, 8, 10], [2, 3, 4, 5, 8, 10, 12])
    name = Element("identifier", "ab", (2, 4), ((2, 4), (6, 8), (10, 12)))
    gap = _gap(tokens, name)
    assert gap.masked == [1, 2, 4, 6]
    assert gap.slots == [[MaskSlot([4, 6], "first")]]


def test_what_is_masked_does_not_decide_what_is_filled_in() -> None:
    infill = Infiller(*infiller())
    filled = []
    for name in ("q", "z"):
        text = f"def f ( {name} ) : <indent> return {name} + {name} <dedent>"
        element = next(element for element in identifiers(tree(text)) if element.text == name)
        filled += infill.fill([tree(text)], infill.tokens([text]), [element])
    assert filled[0] == filled[1]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("def f ( q ) : <indent> return q + q <dedent>", 3),
        # no single occurrence has the best name of all of them
        ("def f ( q ) : <indent> q = q * 1 <nl> return len ( q ) <dedent>", 4),
    ],
)
def test_names_are_filled_by_the_argmax_of_the_mean_over_occurrences(text: str, count: int) -> None:
    model, tokenizer = infiller()
    infill = Infiller(model, tokenizer)
    element = next(element for element in identifiers(tree(text)) if element.text == "q")
    ids = tokenizer(text)["input_ids"]
    at = [index for index, token in enumerate(ids) if tokenizer.decode([token]).strip() == "q"]
    assert len(at) == count
    masked = [tokenizer.mask_token_id if index in at else token for index, token in enumerate(ids)]
    with torch.inference_mode():
        log_p = model(torch.tensor([masked])).logits[0, at].log_softmax(-1)

    def best(values: torch.Tensor) -> str:
        names = (tokenizer.decode([token]).strip() for token in values.argsort(descending=True).tolist())
        return next(
            name
            for name in names
            if syntax.legal_name(name, "python") and name.isascii() and name not in ("f", "q", "len")
        )

    name = best(log_p.mean(0))
    assert infill.fill([tree(text)], infill.tokens([text]), [element]) == [[name] * count]
    if count == 4:
        assert name not in {best(log_p.amax(0)), *map(best, log_p)}


def test_texts_longer_than_the_infiller_are_filled_in_windows() -> None:
    model, tokenizer = infiller()
    infill = Infiller(model, tokenizer)
    body = " <nl> ".join(f"x_{number} = value + {number}" for number in range(60))
    text = f"def f ( value ) : <indent> {body} <dedent>"
    tokens = infill.tokens([text])
    assert len(tokens[0].ids) > 2 * LENGTH
    for element in (identifiers(tree(text), "all")[1], statements(tree(text))[-1]):
        new = infill.fill([tree(text)], tokens, [element])[0]
        assert len(new) == len(element.masked)
        assert all(new)


def test_raw_text_is_masked_and_filled_by_character_spans() -> None:
    infill = Infiller(*infiller())
    text = "int f(int total) {\n\tint value=total+total ;\n\treturn value;\n}\n"
    parsed = tree(text, "java", "raw")
    for element in elements(parsed, settings(names="all")):
        new = infill.fill([parsed], infill.tokens([text]), [element])[0]
        edit = syntax.replace(text, [(*span, word) for span, word in zip(element.masked, new, strict=True)])
        assert edit.text != text
        if element.kind == "identifier":
            assert not tree(edit.text, "java", "raw").has_error


@pytest.mark.parametrize("victim", [generator(), encoder_with_decoder()], ids=["encoder-decoder", "encoder"])
def test_generation_victim_end_to_end(victim: Victim) -> None:
    clean = tuple(Example(str(n), "python", f"def f ( a ) : <indent> return a + {n} <dedent>") for n in range(12))
    rows = purifier(victim, settings(touched_share=1), clean).purify(clean[:4])
    assert all(row.touched and row.example.code != before.code for row, before in zip(rows, clean, strict=False))
    assert all(row.detail["threshold"] is None for row in rows)


def test_fixed_threshold_needs_no_calibration() -> None:
    victim = planted(IDENTIFIER)
    assert purifier(victim, settings(threshold=0.1), ()).threshold == 0.1


def test_helpers_load_strictly_and_from_safetensors_only(tmp_path: Path) -> None:
    model, tokenizer = infiller()
    folder = tmp_path / "encoder"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    view = replace(make_view(planted("x"), CLEAN), helpers={"infiller": folder})
    loaded, _ = load_helper(view, "infiller", MASKED)
    assert not loaded.training
    with pytest.raises(UserError, match="language_model"):
        load_helper(view, "language_model", MASKED)
    with pytest.raises(UserError, match="type 'roberta'"):
        load_helper(view, "infiller", {})
    weights = load_file(folder / "model.safetensors")
    # as in CodeBERT's masked language model of 2020
    width = weights["lm_head.dense.weight"].shape[0]
    old = {"roberta.pooler.dense.weight": torch.zeros(width, width), "roberta.pooler.dense.bias": torch.zeros(width)}
    save_file(weights | old, folder / "model.safetensors", {"format": "pt"})
    load_helper(view, "infiller", MASKED)
    weights.pop("lm_head.dense.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lm_head\.dense"):
        load_helper(view, "infiller", MASKED)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors"):
        load_helper(view, "infiller", MASKED)


@pytest.mark.mirror
@pytest.mark.parametrize(("texts", "language"), [(devign, "c"), (bugs2fix, "java")])
def test_real_code_keeps_parsing_when_an_identifier_is_filled(
    texts: Callable[[], Iterator[str]], language: Language
) -> None:
    infill = Infiller(*infiller())
    checked = 0
    for text in itertools.islice(texts(), 12):
        parsed = tree(text, language, "raw")
        result = elements(parsed, settings(names="all"))
        for element in result:
            assert all(first[1] <= second[0] for first, second in itertools.pairwise(element.masked))
        tokens = infill.tokens([text])
        for element in [*result[:2], *result[-1:]]:
            new = infill.fill([parsed], tokens, [element])[0]
            edit = syntax.replace(text, [(*span, word) for span, word in zip(element.masked, new, strict=True)])
            if element.kind == "identifier" and not parsed.has_error:
                assert not tree(edit.text, language, "raw").has_error
                checked += 1
    assert checked > 10


def test_keywords_of_a_statement_are_masked_where_the_settings_say_so() -> None:
    text = "def f ( a ) : <indent> assert 1 >= 0 <nl> pass <dedent>"
    assert [mask(text, element.masked) for element in statements(tree(text))] == [text.replace("1 >= 0", "? ? ?")]
    masked = statements(tree(text), keywords="masked")
    assert [mask(text, element.masked) for element in masked] == [
        text.replace("assert 1 >= 0", "? ? ? ?"),
        text.replace("pass", "?"),
    ]
    # a victim that reacts to the keyword alone: the trigger's score needs the keyword masked
    victim, row = planted("assert"), replace(example(1), code=text)
    assert max(element.score for element in scored(victim, row, settings())) < 0.1
    (most_suspicious, *_) = sorted(scored(victim, row, settings(keywords="masked")), key=lambda element: -element.score)
    assert most_suspicious.score > 0.2
    assert most_suspicious.parts[0][1].text == "assert 1 >= 0"
