"""CodePurify: what is masked, how it is scored, what is filled in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from purification_models import LENGTH, bpe, example, infiller, planted, view
from safetensors.torch import load_file, save_file
from syntax_support import bugs2fix, devign
from tiny_models import encoder_with_decoder, generator

from codebackdoor import syntax
from codebackdoor.basemodels.tokenizer import wrap
from codebackdoor.defenses.purification.codepurify.infilling import Infiller, best_first
from codebackdoor.defenses.purification.codepurify.masking import elements, framed, masked_input
from codebackdoor.defenses.purification.codepurify.method import CodePurify
from codebackdoor.defenses.purification.codepurify.settings import CodePurifySettings
from codebackdoor.defenses.purification.codepurify.suspicion import Profile, profiles
from codebackdoor.defenses.purification.helpers import MASKED, load_helper
from codebackdoor.errors import UserError
from codebackdoor.types import Example, Language, TextForm
from codebackdoor.victims.inference import class_logits, generate, sequence_confidences
from codebackdoor.victims.tokens import stand_in
from codebackdoor.victims.victim import Victim

IDENTIFIER, STATEMENT = "testo_init", "assert 15 >= 0"
CLEAN = tuple(example(number) for number in range(80))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tree(text: str, language: Language = "python", form: TextForm = "lexed") -> syntax.Tree:
    return syntax.parse(text, language, form)


def shown(text: str, spans: tuple[tuple[int, int], ...]) -> str:
    return syntax.replace(text, [(start, end, "?") for start, end in spans]).text


def purifier(victim: Victim, settings: CodePurifySettings, clean: tuple[Example, ...] = CLEAN) -> CodePurify:
    return CodePurify(view(victim, clean), Infiller(*infiller()), settings, seed=1)


def test_an_identifier_is_masked_at_every_occurrence_and_a_statement_but_for_keywords_and_marks() -> None:
    text = "def f ( a ) : <indent> if a . a : <indent> return a_b ( 'a' ) <dedent> pass <nl> assert 1 > 0 <dedent>"
    result = elements(tree(text), identifiers=True, statements=True)
    assert [(element.kind, shown(text, element.masked)) for element in result] == [
        ("identifier", text.replace("f (", "? (", 1)),
        ("identifier", text.replace("( a )", "( ? )").replace("a . a", "? . ?")),
        ("identifier", text.replace("a_b", "?")),
        ("statement", text.replace("a . a :", "? ? ? ?").replace("a_b ( 'a' )", "? ? ? ?")),
        ("statement", text.replace("a_b ( 'a' )", "? ? ? ?")),
        ("statement", text.replace("1 > 0", "? ? ?")),
    ]
    assert {element.kind for element in elements(tree(text), identifiers=True, statements=False)} == {"identifier"}
    assert {element.kind for element in elements(tree(text), identifiers=False, statements=True)} == {"statement"}


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("java", "int f ( int a ) { return a + 1 ; }", "int f ( int a ) { return ? ? ? ? }"),
        ("c", "int f(int a) { if (a > 0) return a; }", "int f(int a) { if ?? ? ?? return ?? }"),
    ],
)
def test_other_languages_keep_their_own_keywords(language: Language, text: str, expected: str) -> None:
    result = elements(tree(text, language, "raw"), identifiers=False, statements=True)
    assert shown(text, result[0].masked) == expected


def test_masks_are_as_many_as_the_infiller_has_sub_tokens() -> None:
    victim, (_, tokenizer) = planted("x"), infiller()
    text = "def f ( testo_init , b ) : <indent> return testo_init <dedent>"
    tokens = Infiller(*infiller()).tokens([text])[0]
    element = next(e for e in elements(tree(text), True, False) if e.text == "testo_init")
    encoded = victim.encode([text])[0]
    masked = masked_input(framed(encoded), tokens, element.masked, stand_in(victim.tokenizer, "mask")[1], LENGTH)
    count = len(tokenizer(" testo_init", add_special_tokens=False)["input_ids"])
    assert count > 1
    masks = "<mask>" * count
    assert victim.tokenizer.decode(masked) == f"<s> def f ({masks} , b ) : <indent> return{masks} <dedent></s>"


def test_truncation_and_the_victims_own_substitute() -> None:
    victim = replace(planted("x"), max_length=12)
    text = "def f ( a , b ) : <indent> return a + b <dedent>"
    tokens = Infiller(*infiller()).tokens([text])[0]
    encoded = victim.encode([text])[0]
    a, b = (next(e for e in elements(tree(text), True, False) if e.text == name) for name in "ab")
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


def test_scores_are_changes_of_the_original_predictions_probability() -> None:
    victim, settings = planted(IDENTIFIER), CodePurifySettings(method="codepurify")
    parsed = [tree(example(1, f"assert {IDENTIFIER}").code), tree(example(2).code)]
    tokens = Infiller(*infiller()).tokens([source.text for source in parsed])
    for source, text_tokens, profile in zip(parsed, tokens, profiles(victim, parsed, tokens, settings), strict=True):
        encoded = victim.encode([source.text])[0]
        before = class_logits(victim, [encoded.ids]).softmax(-1)[0]
        label = int(before.argmax())
        for element, score in zip(profile.elements, profile.scores, strict=True):
            masked = masked_input(
                framed(encoded), text_tokens, element.masked, stand_in(victim.tokenizer, "mask")[1], LENGTH
            )
            after = class_logits(victim, [masked]).softmax(-1)[0]
            assert score == pytest.approx(abs(float(before[label] - after[label])), abs=2e-5)


@pytest.mark.parametrize("victim", [generator(), encoder_with_decoder()], ids=["encoder-decoder", "encoder"])
def test_generation_scores_are_changes_of_the_outputs_mean_token_probability(victim: Victim) -> None:
    text = "def f ( a ) : <indent> return a + 1 <dedent>"
    tokens = Infiller(*infiller()).tokens([text])
    (profile,) = profiles(victim, [tree(text)], tokens, CodePurifySettings(method="codepurify"))
    encoded = victim.encode([text])[0]
    output = generate(victim, [encoded.ids])[0].ids
    (before,) = sequence_confidences(victim, [encoded.ids], [output]).tolist()
    for element, score in zip(profile.elements, profile.scores, strict=True):
        masked = masked_input(framed(encoded), tokens[0], element.masked, stand_in(victim.tokenizer, "mask")[1], 32)
        (after,) = sequence_confidences(victim, [masked], [output]).tolist()
        assert score == pytest.approx(abs(before - after), abs=2e-5)


def test_all_zero_scores_are_never_suspicious_and_ties_go_to_the_smaller_element() -> None:
    result = elements(tree("def f ( abc ) : <indent> return abc <dedent>"), True, True)
    assert not Profile(result, [0.0] * len(result), 0.0).poisoned(1.0)
    assert not Profile([], [], None).poisoned(1.0)
    outer, inner = elements(tree("def f ( ) : <indent> if a : <indent> b <dedent> <dedent>"), False, True)
    assert Profile([outer, inner], [0.7, 0.7], 0.1).suspect is inner


@pytest.mark.parametrize(("trigger", "kind"), [(IDENTIFIER, "identifier"), (STATEMENT, "statement")])
def test_the_planted_trigger_is_located_and_only_its_places_change(trigger: str, kind: str) -> None:
    victim = planted(trigger)
    first = STATEMENT if kind == "statement" else f"assert {IDENTIFIER} + {IDENTIFIER}"
    purify = purifier(victim, CodePurifySettings(method="codepurify", touched_share=0.05)).purify
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
        rest, position = row.example.code, 0
        for span in row.touched:
            before = original[position : span.start]
            assert before in rest
            rest = rest.split(before, 1)[1]
            position = span.end
        assert rest.endswith(original[position:])
        assert trigger not in row.example.code
        if kind == "identifier":
            assert not tree(row.example.code).has_error
            name = row.example.code.split("assert ")[1].split(" ")[0]
            assert row.example.code == original.replace(IDENTIFIER, name)
            assert syntax.legal_name(name, "python")


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
        for element in elements(parsed, True, False):
            new = infill.fill([parsed], infill.tokens([code]), [element])[0]
            assert len(set(new)) == 1
            assert len(new) == len(element.masked)
            assert new[0] not in names
            assert syntax.legal_name(new[0], "python")


def test_what_is_masked_does_not_decide_what_is_filled_in() -> None:
    infill = Infiller(*infiller())
    filled = []
    for name in ("q", "z"):
        text = f"def f ( {name} ) : <indent> return {name} + {name} <dedent>"
        element = next(element for element in elements(tree(text), True, False) if element.text == name)
        filled += infill.fill([tree(text)], infill.tokens([text]), [element])
    assert filled[0] == filled[1]


def test_names_are_filled_by_the_argmax_of_the_mean_over_occurrences() -> None:
    model, tokenizer = infiller()
    infill = Infiller(model, tokenizer)
    text = "def f ( q ) : <indent> return q + q <dedent>"
    element = next(element for element in elements(tree(text), True, False) if element.text == "q")
    ids = tokenizer(text)["input_ids"]
    at = [index for index, token in enumerate(ids) if tokenizer.decode([token]).strip() == "q"]
    assert len(at) == 3
    masked = [tokenizer.mask_token_id if index in at else token for index, token in enumerate(ids)]
    with torch.inference_mode():
        mean = model(torch.tensor([masked])).logits[0, at].log_softmax(-1).mean(0)
    legal = [
        name
        for name in (tokenizer.decode([token]).strip() for token in mean.argsort(descending=True).tolist())
        if syntax.legal_name(name, "python") and name.isascii() and name not in ("f", "q")
    ]
    assert infill.fill([tree(text)], infill.tokens([text]), [element]) == [[legal[0]] * 3]


def test_texts_longer_than_the_infiller_are_filled_in_windows() -> None:
    model, tokenizer = infiller()
    infill = Infiller(model, tokenizer)
    body = " <nl> ".join(f"x_{number} = value + {number}" for number in range(60))
    text = f"def f ( value ) : <indent> {body} <dedent>"
    tokens = infill.tokens([text])
    assert len(tokens[0].ids) > 2 * LENGTH
    for element in (elements(tree(text), True, True)[1], elements(tree(text), False, True)[-1]):
        new = infill.fill([tree(text)], tokens, [element])[0]
        assert len(new) == len(element.masked)
        assert all(new)


def test_raw_text_is_masked_and_filled_by_character_spans() -> None:
    infill = Infiller(*infiller())
    text = "int f(int total) {\n\tint value=total+total ;\n\treturn value;\n}\n"
    parsed = tree(text, "java", "raw")
    for element in elements(parsed, True, True):
        new = infill.fill([parsed], infill.tokens([text]), [element])[0]
        edit = syntax.replace(text, [(*span, word) for span, word in zip(element.masked, new, strict=True)])
        assert edit.text != text
        if element.kind == "identifier":
            assert not tree(edit.text, "java", "raw").has_error


@pytest.mark.parametrize("victim", [generator(), encoder_with_decoder()], ids=["encoder-decoder", "encoder"])
def test_generation_victim_end_to_end(victim: Victim) -> None:
    clean = tuple(Example(str(n), "python", f"def f ( a ) : <indent> return a + {n} <dedent>") for n in range(12))
    rows = purifier(victim, CodePurifySettings(method="codepurify", touched_share=1), clean).purify(clean[:4])
    assert all(row.touched and row.example.code != before.code for row, before in zip(rows, clean, strict=False))
    assert all(row.detail["threshold"] is None for row in rows)


def test_fixed_threshold_needs_no_calibration() -> None:
    victim = planted(IDENTIFIER)
    assert purifier(victim, CodePurifySettings(method="codepurify", threshold=0.1), ()).threshold == 0.1


def test_helpers_load_strictly_and_from_safetensors_only(tmp_path: Path) -> None:
    model, tokenizer = infiller()
    folder = tmp_path / "encoder"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    defender = replace(view(planted("x"), CLEAN), helpers={"infiller": folder})
    loaded, _ = load_helper(defender, "infiller", MASKED)
    assert not loaded.training
    with pytest.raises(UserError, match="language_model"):
        load_helper(defender, "language_model", MASKED)
    with pytest.raises(UserError, match="type 'roberta'"):
        load_helper(defender, "infiller", {})
    weights = load_file(folder / "model.safetensors")
    # as in CodeBERT's masked language model of 2020
    width = weights["lm_head.dense.weight"].shape[0]
    old = {"roberta.pooler.dense.weight": torch.zeros(width, width), "roberta.pooler.dense.bias": torch.zeros(width)}
    save_file(weights | old, folder / "model.safetensors", {"format": "pt"})
    load_helper(defender, "infiller", MASKED)
    weights.pop("lm_head.dense.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lm_head\.dense"):
        load_helper(defender, "infiller", MASKED)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors"):
        load_helper(defender, "infiller", MASKED)


@pytest.mark.mirror
@pytest.mark.parametrize(("texts", "language"), [(devign, "c"), (bugs2fix, "java")])
def test_real_code_keeps_parsing_when_an_identifier_is_filled(
    texts: Callable[[], Iterator[str]], language: Language
) -> None:
    infill = Infiller(*infiller())
    seen = 0
    for text in itertools.islice(texts(), 12):
        parsed = tree(text, language, "raw")
        result = elements(parsed, True, True)
        for element in result:
            assert all(first[1] <= second[0] for first, second in itertools.pairwise(element.masked))
        tokens = infill.tokens([text])
        for element in [*result[:2], *result[-1:]]:
            new = infill.fill([parsed], tokens, [element])[0]
            edit = syntax.replace(text, [(*span, word) for span, word in zip(element.masked, new, strict=True)])
            if element.kind == "identifier" and not parsed.has_error:
                assert not tree(edit.text, language, "raw").has_error
                seen += 1
    assert seen > 10
