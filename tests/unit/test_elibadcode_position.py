"""Phase (b): places in characters and in sub-tokens, and the one that the victim minds least."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from planted import PLANTED, sample, searches, victim, view
from tiny_models import crafter

from codebackdoor import syntax
from codebackdoor.defenses.elimination.inversion.carriers import cut
from codebackdoor.defenses.elimination.inversion.position import (
    MASK,
    carriers,
    inside,
    own_losses,
    seeded,
    sensitivities,
    trigger_spans,
)
from codebackdoor.defenses.elimination.inversion.spans import TriggerSpans, candidates, function_name, statement
from codebackdoor.defenses.elimination.inversion.vocabulary import encode
from codebackdoor.errors import UserError
from codebackdoor.types import Example, Language, TextForm
from codebackdoor.victims.inference import class_logits, predict_logits
from codebackdoor.victims.tokens import stand_in

CODE = f"def load_{PLANTED} ( text , size ) : <indent> name = size + size <nl> return name ( text ) <dedent>"


def tree(code: str = CODE) -> syntax.Tree:
    return syntax.parse(code, "python", "lexed")


def test_one_place_an_occurrence_or_one_an_identifier() -> None:
    single, every = candidates(tree(), "one"), candidates(tree(), "all")
    assert [len(place.spans) for place in single] == [1] * 8
    assert {place.name: len(place.spans) for place in every} == {f"load_{PLANTED}": 1, "text": 2, "size": 3, "name": 2}
    for place in [*single, *every]:
        assert all(CODE[start:end] == place.name for start, end in place.spans)


def test_the_functions_name_is_replaced_where_it_is_defined_or_everywhere() -> None:
    code = "def walk ( node ) : <indent> return walk ( node ) <dedent>"
    once, everywhere = function_name(tree(code), "one"), function_name(tree(code), "all")
    assert once is not None
    assert everywhere is not None
    assert once.replace(code, "x_1") == "def x_1 ( node ) : <indent> return walk ( node ) <dedent>"
    assert everywhere.replace(code, "x_1") == "def x_1 ( node ) : <indent> return x_1 ( node ) <dedent>"
    assert function_name(tree("x = 1"), "one") is None


@pytest.mark.parametrize("occurrences", ["one", "all"])
@pytest.mark.parametrize("new", ["name", "load_sizeinit", "x"])
def test_a_filled_template_is_the_replaced_text_as_the_victim_reads_it(occurrences: str, new: str) -> None:
    asked = victim()
    for code in [CODE, *(sample(number).code for number in range(6))]:
        encoded = asked.encode([code])[0]
        for place in [*candidates(tree(code), occurrences), function_name(tree(code), occurrences)]:
            assert place is not None
            template = cut(asked, code, encoded, place)
            assert template is not None
            filled = template.fill(*(encode(asked.tokenizer, [new], context)[0] for context in (True, False)))
            assert filled == asked.encode([place.replace(code, new)])[0].ids


#: A function, and the same with words in place of a first statement, as source.
FIRST_STATEMENTS = [
    ("python", "def f(x):\n    return x\n", "def f(x):\n    assert __ >=\n    return x\n"),
    ("python", "def f(x): return x\n", "def f(x): \n    assert __ >=\n    return x\n"),
    ("python", 'def f(x):\n    """doc"""\n    y = 1\n', 'def f(x):\n    """doc"""\n    assert __ >=\n    y = 1\n'),
    ("python", "class A:\n\tdef f(x):\n\t\treturn x\n", "class A:\n\tdef f(x):\n\t\tassert __ >=\n\t\treturn x\n"),
    ("java", "int f(int a) {\n    return a;\n}", "int f(int a) {\n    assert __ >=\n    return a;\n}"),
    ("java", "Foo(int a) { super(a); b = a; }", "Foo(int a) { super(a); assert __ >= b = a; }"),
    ("c", "int f(int a)\n{\n\treturn a;\n}\n", "int f(int a)\n{\n\tassert __ >=\n\treturn a;\n}\n"),
    ("c", "int f(int a) { return a; }", "int f(int a) { assert __ >= return a; }"),
]
LEXED = [
    (
        "python",
        "def f ( x ) : <indent> return x <dedent>",
        "def f ( x ) : <indent> assert __ >= <nl> return x <dedent>",
    ),
    ("java", "int f ( int a ) { return a ; }", "int f ( int a ) { assert __ >= return a ; }"),
    ("c", "int f ( int a ) { return a ; }", "int f ( int a ) { assert __ >= return a ; }"),
]


@pytest.mark.parametrize(
    ("form", "language", "code", "expected"),
    [*(("raw", *case) for case in FIRST_STATEMENTS), *(("lexed", *case) for case in LEXED)],
)
def test_a_first_statement_is_put_in_as_the_victim_reads_it(
    form: TextForm, language: Language, code: str, expected: str
) -> None:
    asked = crafter()
    place = statement(syntax.parse(code, language, form))
    assert place is not None
    assert place.replace(code, "assert __ >=") == expected
    template = cut(asked, code, asked.encode([code])[0], place)
    assert template is not None
    filled = template.fill(*(encode(asked.tokenizer, ["assert __ >="], context)[0] for context in (True, False)))
    assert filled == asked.encode([expected])[0].ids
    slots = [position for position, _, _ in template.slots(3)]
    assert "".join(asked.tokenizer.convert_ids_to_tokens([filled[slot] for slot in slots])).endswith("assertĠ__Ġ>=")


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "x = 1"),
        ("python", 'def f(x):\n    """doc"""\n'),
        ("java", "abstract int f(int a);"),
        # nothing would separate the words from what follows
        ("c", "int f(int a) {return a;}"),
    ],
)
def test_a_text_without_a_place_for_a_first_statement_has_none(language: Language, code: str) -> None:
    assert statement(syntax.parse(code, language, "raw")) is None


def test_a_first_statement_behind_the_input_has_no_place() -> None:
    asked, code = crafter(max_length=12), f"def f({', '.join(f'argument_{n}' for n in range(20))}):\n    return 1\n"
    place = statement(syntax.parse(code, "python", "raw"))
    assert place is not None
    assert cut(asked, code, asked.encode([code])[0], place) is None


@pytest.mark.parametrize("length", [1, 4])
def test_slots_are_where_the_trigger_lies(length: int) -> None:
    asked = victim()
    place = next(place for place in candidates(tree(), "all") if place.name == "size")
    template = cut(asked, CODE, asked.encode([CODE])[0], place)
    assert template is not None
    filled = template.fill(range(1000, 1000 + length), range(1000, 1000 + length))
    assert [(position, filled[position] - 1000) for position, _, _ in template.slots(length)] == [
        (position, slot) for position, slot, _ in template.slots(length)
    ]
    assert len(template.slots(length)) == 3 * length
    assert sum(token >= 1000 for token in filled) == 3 * length


def test_what_lies_behind_the_truncation_is_no_place() -> None:
    asked = victim(max_length=12)
    encoded = asked.encode([CODE])[0]
    found = {place.name: cut(asked, CODE, encoded, place) for place in candidates(tree(), "all")}
    assert found["name"] is None
    assert found["text"] is not None
    assert len(found["text"].spaced) == 1
    for length in (1, 8):
        filled = found["text"].fill([7] * length, [7] * length)
        assert len(filled) <= 12
        assert filled[-1] == asked.tokenizer.eos_token_id
        assert all(filled[position] == 7 for position, _, _ in found["text"].slots(length))


def test_characters_that_share_a_sub_token_with_the_name_stay() -> None:
    asked = victim()
    encoded = asked.encode(["f ((a))"])[0]
    shared = asked.tokenizer.convert_ids_to_tokens(encoded.ids)
    template = cut(asked, "f ((a))", encoded, TriggerSpans("(a", ((3, 5),)))
    assert template is not None
    text = asked.tokenizer.decode(template.fill([], []), skip_special_tokens=True).replace(" ", "")
    assert (text, len(shared)) == ("f())", len(shared))


def test_the_least_sensitive_place_is_the_one_whose_mask_changes_the_true_labels_loss_least() -> None:
    seen = view()
    example = Example("a", "python", CODE, label=1)
    options = candidates(tree(), "one")
    (found,) = sensitivities(seen.victim, [example], [options])
    _, substitute = stand_in(seen.victim.tokenizer, MASK)
    assert substitute == seen.victim.tokenizer.unk_token_id
    for place, change in found:
        losses = []
        for code in (CODE, place.replace(CODE, "<unk>").replace(" <unk>", "<unk>")):
            logits = class_logits(seen.victim, [seen.victim.encode([code])[0].ids])
            losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor([1])).item())
        assert change == pytest.approx(abs(losses[0] - losses[1]), abs=1e-5)
    worst = max(found, key=lambda pair: pair[1])[0]
    assert worst.name == f"load_{PLANTED}"
    assert trigger_spans(seen, [example], "least_sensitive", "one", "both") == [
        (min(found, key=lambda pair: pair[1])[0],)
    ]
    assert trigger_spans(seen, [example], "function_name", "one", "both") == [(function_name(tree(), "one"),)]


def test_a_sample_without_identifiers_has_no_place() -> None:
    nothing = Example("a", "python", "1 + 2", label=0)
    assert carriers(view(), [nothing], "least_sensitive", "one", "both") == [None]
    assert carriers(view(), [nothing], "function_name", "one", "both") == [None]


def test_a_tokenizer_that_can_mask_nothing_is_a_user_error() -> None:
    asked = victim()
    asked.tokenizer.unk_token = None
    assert stand_in(asked.tokenizer, MASK) == ("<mask>", asked.tokenizer.mask_token_id)
    asked.tokenizer.mask_token = None
    with pytest.raises(UserError, match="neither"):
        stand_in(asked.tokenizer, MASK)


def test_ranks_are_counted_from_the_least_sensitive_place_and_from_the_most_sensitive_one() -> None:
    seen = view()
    example = Example("a", "python", CODE, label=1)
    (found,) = sensitivities(seen.victim, [example], [candidates(tree(), "one")])
    ranked = [place for place, _ in sorted(found, key=lambda pair: pair[1])]
    assert len({change for _, change in found}) == len(found)
    for rank in (0, 1, 2, -1, -2):
        assert trigger_spans(seen, [example], f"rank {rank}", "one", "both") == [(ranked[rank],)]
    for rank in (len(ranked), -len(ranked) - 1):
        assert trigger_spans(seen, [example], f"rank {rank}", "one", "both") == [None]


def test_a_place_at_random_is_any_of_those_that_the_victim_reads_and_the_same_each_time() -> None:
    seen = replace(view(), victim=victim(max_length=24))
    examples = [Example(str(number), "python", CODE.replace("text", f"text{number}"), label=1) for number in range(12)]
    found = trigger_spans(seen, examples, seeded("random", 1), "one", "both")
    assert found == trigger_spans(seen, examples, "random 1", "one", "both")
    assert found != trigger_spans(seen, examples, "random 2", "one", "both")
    nth = set()
    for example, own in zip(examples, found, strict=True):
        options = candidates(syntax.parse(example.code, "python", "lexed"), "one")
        read = inside(seen.victim, example, options)
        assert own is not None
        assert len(read) < len(options)
        nth.add(read.index(own[0]))
    assert len(nth) > 2


def test_the_place_in_a_searching_victims_function_goes_by_the_cosine_whatever_it_ranks_by() -> None:
    seen = searches()
    rows = [tuple(text.ids for text in texts) for texts in seen.victim.tokenize(seen.clean[:4])]
    by_product = own_losses(replace(seen.victim, similarity="dot"), rows, seen.clean[:4])
    cosines = predict_logits(seen.victim, rows)
    assert torch.equal(by_product, (1 - cosines) ** 2)
    assert not torch.allclose(cosines, predict_logits(replace(seen.victim, similarity="dot"), rows))
