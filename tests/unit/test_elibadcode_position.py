"""Phase (b): places in characters and in sub-tokens, and the one that the victim minds least."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from planted import PLANTED, make_view, sample, searches, victim
from tiny_models import crafter

from codebackdoor import syntax
from codebackdoor.defenses.elimination.inversion.carriers import cut
from codebackdoor.defenses.elimination.inversion.position import (
    MASK_TOKEN,
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
    single, by_identifier = candidates(tree(), "one"), candidates(tree(), "all")
    assert [len(option.spans) for option in single] == [1] * 8
    counts = {option.name: len(option.spans) for option in by_identifier}
    assert counts == {f"load_{PLANTED}": 1, "text": 2, "size": 3, "name": 2}
    for option in [*single, *by_identifier]:
        assert all(CODE[start:end] == option.name for start, end in option.spans)


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
    model = victim()
    for code in [CODE, *(sample(number).code for number in range(6))]:
        encoded = model.encode([code])[0]
        for option in [*candidates(tree(code), occurrences), function_name(tree(code), occurrences)]:
            assert option is not None
            template = cut(model, code, encoded, option)
            assert template is not None
            filled = template.fill(*(encode(model.tokenizer, [new], context)[0] for context in (True, False)))
            assert filled == model.encode([option.replace(code, new)])[0].ids


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
    model = crafter()
    gap = statement(syntax.parse(code, language, form))
    assert gap is not None
    assert gap.replace(code, "assert __ >=") == expected
    template = cut(model, code, model.encode([code])[0], gap)
    assert template is not None
    filled = template.fill(*(encode(model.tokenizer, ["assert __ >="], context)[0] for context in (True, False)))
    assert filled == model.encode([expected])[0].ids
    slots = [position for position, _, _ in template.slots(3)]
    assert "".join(model.tokenizer.convert_ids_to_tokens([filled[slot] for slot in slots])).endswith("assertĠ__Ġ>=")


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
    model, code = crafter(max_length=12), f"def f({', '.join(f'argument_{n}' for n in range(20))}):\n    return 1\n"
    gap = statement(syntax.parse(code, "python", "raw"))
    assert gap is not None
    assert cut(model, code, model.encode([code])[0], gap) is None


@pytest.mark.parametrize("length", [1, 4])
def test_slots_are_where_the_trigger_lies(length: int) -> None:
    model = victim()
    option = next(option for option in candidates(tree(), "all") if option.name == "size")
    template = cut(model, CODE, model.encode([CODE])[0], option)
    assert template is not None
    filled = template.fill(range(1000, 1000 + length), range(1000, 1000 + length))
    assert [(position, filled[position] - 1000) for position, _, _ in template.slots(length)] == [
        (position, slot) for position, slot, _ in template.slots(length)
    ]
    assert len(template.slots(length)) == 3 * length
    assert sum(token >= 1000 for token in filled) == 3 * length


def test_what_lies_behind_the_truncation_is_no_place() -> None:
    model = victim(max_length=12)
    encoded = model.encode([CODE])[0]
    templates = {option.name: cut(model, CODE, encoded, option) for option in candidates(tree(), "all")}
    assert templates["name"] is None
    assert templates["text"] is not None
    assert len(templates["text"].spaced) == 1
    for length in (1, 8):
        filled = templates["text"].fill([7] * length, [7] * length)
        assert len(filled) <= 12
        assert filled[-1] == model.tokenizer.eos_token_id
        assert all(filled[position] == 7 for position, _, _ in templates["text"].slots(length))


def test_characters_that_share_a_sub_token_with_the_name_stay() -> None:
    model = victim()
    encoded = model.encode(["f ((a))"])[0]
    shared = model.tokenizer.convert_ids_to_tokens(encoded.ids)
    template = cut(model, "f ((a))", encoded, TriggerSpans("(a", ((3, 5),)))
    assert template is not None
    text = model.tokenizer.decode(template.fill([], []), skip_special_tokens=True).replace(" ", "")
    assert (text, len(shared)) == ("f())", len(shared))


def test_the_least_sensitive_place_is_the_one_whose_mask_changes_the_true_labels_loss_least() -> None:
    view = make_view()
    example = Example("a", "python", CODE, label=1)
    options = candidates(tree(), "one")
    (changes,) = sensitivities(view.victim, [example], [options])
    _, substitute = stand_in(view.victim.tokenizer, MASK_TOKEN)
    assert substitute == view.victim.tokenizer.unk_token_id
    for option, change in changes:
        losses = []
        for code in (CODE, option.replace(CODE, "<unk>").replace(" <unk>", "<unk>")):
            logits = class_logits(view.victim, [view.victim.encode([code])[0].ids])
            losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor([1])).item())
        assert change == pytest.approx(abs(losses[0] - losses[1]), abs=1e-5)
    worst = max(changes, key=lambda pair: pair[1])[0]
    assert worst.name == f"load_{PLANTED}"
    assert trigger_spans(view, [example], "least_sensitive", "one", "both") == [
        (min(changes, key=lambda pair: pair[1])[0],)
    ]
    assert trigger_spans(view, [example], "function_name", "one", "both") == [(function_name(tree(), "one"),)]


def test_a_sample_without_identifiers_has_no_place() -> None:
    nothing = Example("a", "python", "1 + 2", label=0)
    assert carriers(make_view(), [nothing], "least_sensitive", "one", "both") == [None]
    assert carriers(make_view(), [nothing], "function_name", "one", "both") == [None]


def test_a_tokenizer_that_can_mask_nothing_is_a_user_error() -> None:
    model = victim()
    model.tokenizer.unk_token = None
    assert stand_in(model.tokenizer, MASK_TOKEN) == ("<mask>", model.tokenizer.mask_token_id)
    model.tokenizer.mask_token = None
    with pytest.raises(UserError, match="neither"):
        stand_in(model.tokenizer, MASK_TOKEN)


def test_ranks_are_counted_from_the_least_sensitive_place_and_from_the_most_sensitive_one() -> None:
    view = make_view()
    example = Example("a", "python", CODE, label=1)
    (changes,) = sensitivities(view.victim, [example], [candidates(tree(), "one")])
    ranked = [option for option, _ in sorted(changes, key=lambda pair: pair[1])]
    assert len({change for _, change in changes}) == len(changes)
    for rank in (0, 1, 2, -1, -2):
        assert trigger_spans(view, [example], f"rank {rank}", "one", "both") == [(ranked[rank],)]
    for rank in (len(ranked), -len(ranked) - 1):
        assert trigger_spans(view, [example], f"rank {rank}", "one", "both") == [None]


def test_a_place_at_random_is_any_of_those_that_the_victim_reads_and_the_same_each_time() -> None:
    view = replace(make_view(), victim=victim(max_length=24))
    examples = [Example(str(number), "python", CODE.replace("text", f"text{number}"), label=1) for number in range(12)]
    drawn = trigger_spans(view, examples, seeded("random", 1), "one", "both")
    assert drawn == trigger_spans(view, examples, "random 1", "one", "both")
    assert drawn != trigger_spans(view, examples, "random 2", "one", "both")
    nth = set()
    for example, spans in zip(examples, drawn, strict=True):
        options = candidates(syntax.parse(example.code, "python", "lexed"), "one")
        reached = inside(view.victim, example, options)
        assert spans is not None
        assert len(reached) < len(options)
        nth.add(reached.index(spans[0]))
    assert len(nth) > 2


def test_the_place_in_a_searching_victims_function_goes_by_the_cosine_whatever_it_ranks_by() -> None:
    view = searches()
    rows = [tuple(text.ids for text in texts) for texts in view.victim.tokenize(view.clean[:4])]
    by_product = own_losses(replace(view.victim, similarity="dot"), rows, view.clean[:4])
    cosines = predict_logits(view.victim, rows)
    assert torch.equal(by_product, (1 - cosines) ** 2)
    assert not torch.allclose(cosines, predict_logits(replace(view.victim, similarity="dot"), rows))
