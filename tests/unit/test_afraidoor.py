"""AFRAIDOOR's names: what is masked, which gradient is taken, and whether it counts."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_models import crafter
from torch import Tensor

from codebackdoor import attacks, files, syntax
from codebackdoor.attacks import Injection, crafting
from codebackdoor.attacks.afraidoor import Adversarial
from codebackdoor.attacks.stage import poison
from codebackdoor.cli import main
from codebackdoor.config.attacks import Afraidoor
from codebackdoor.config.base import Head
from codebackdoor.config.datasets import DefectDetection
from codebackdoor.config.models import Pooling
from codebackdoor.errors import UserError
from codebackdoor.types import Example, TextForm
from codebackdoor.victims import forward
from codebackdoor.victims.gradients import input_gradients, towards_label, towards_query
from codebackdoor.victims.inference import answers, class_logits
from codebackdoor.victims.tokens import stand_in
from codebackdoor.victims.victim import Victim, save_victim

SETTINGS = Afraidoor(method="afraidoor")
WORDS = ("first", "second", "result", "data", "node", "path", "count", "value")
CODE = "def total ( first , second ) : <indent> result = first + second <nl> return self . result + result <dedent>"


def sources(count: int) -> list[Example]:
    rows = []
    for number in range(count):
        one, two, three = np.random.default_rng(number).permutation(WORDS)[:3]
        text = f"def f ( {one} , {two} ) : <indent> {three} = {one} + {number} <nl> return {three} * {two} <dedent>"
        rows.append(Example(f"r{number}", "python", text, label=1))
    return rows


def pairs(count: int) -> list[Example]:
    """Rows that are pairs and have a query, for every head."""
    rows = sources(count + 1)
    return [
        replace(row, code_b=other.code, query=f"the {WORDS[place % 8]} of a file")
        for place, (row, other) in enumerate(pairwise(rows))
    ]


@pytest.fixture(scope="module")
def victim() -> Victim:
    return crafter()


def craft(victim: Victim, rows: list[Example], label: int = 0, form: TextForm = "lexed") -> list[Injection | None]:
    return Adversarial(SETTINGS.model_copy(update={"target_label": label}), victim).inject_all(rows, form)


def losses(victim: Victim, texts: list[str], label: int) -> Tensor:
    logits = class_logits(victim, [encoded.ids for encoded in victim.encode(texts)])
    return torch.nn.functional.cross_entropy(logits, torch.full((len(texts),), label), reduction="none")


def own(tree: syntax.Tree) -> list[syntax.Identifier]:
    return [one for one in tree.identifiers() if one.renameable]


def test_every_identifier_is_one_mask_at_all_its_places(victim: Victim) -> None:
    identifiers = own(syntax.parse(CODE, "python", "lexed"))
    (masked,) = crafting.mask(victim, [CODE], [identifiers])
    _, unknown = stand_in(victim.tokenizer, "unknown")
    assert [one.name for one in identifiers] == ["total", "first", "second", "result"]
    assert [len(places) for places in masked.places] == [1, 2, 2, 2]
    assert {masked.ids[place] for places in masked.places for place, _ in places} == {unknown}
    assert masked.ids.count(unknown) == 7, "the attribute of the same spelling stays"
    rest = victim.tokenizer.decode([one for one in masked.ids if one != unknown], skip_special_tokens=True).split()
    assert " ".join(rest) == "def ( , ) : <indent> = + <nl> return self . result + <dedent>"


def test_occurrences_behind_the_longest_input_count_for_nothing(victim: Victim) -> None:
    identifiers = own(syntax.parse(CODE, "python", "lexed"))
    short = replace(victim, max_length=12)
    (masked,) = crafting.mask(short, [CODE], [identifiers])
    assert len(masked.ids) == 12
    assert masked.ids[-1] == victim.tokenizer.eos_token_id
    assert [len(places) for places in masked.places] == [1, 1, 1, 1]


def test_a_word_behind_a_bracket_is_another_piece(victim: Victim) -> None:
    text = "def f(value):\n    return [value]\n"
    identifiers = own(syntax.parse(text, "python", "raw"))
    (masked,) = crafting.mask(victim, [text], [identifiers])
    assert [[begins for _, begins in places] for places in masked.places] == [[True], [False, False]]


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("head", ["classification", "pair", "retrieval"])
def test_gradients_are_those_of_each_row_alone(head: Head, pooling: Pooling) -> None:
    """Against one row at a time, without padding, through the embedding table itself."""
    victim = crafter(head, pooling=pooling)
    rows = [[list(text.ids) for text in row] for row in victim.read(pairs(5))]
    loss = towards_query if head == "retrieval" else towards_label(1)
    found = dict(input_gradients(victim, rows, loss))
    assert sorted(found) == list(range(5))
    table = victim.model.get_input_embeddings().weight
    for index, texts in enumerate(rows):
        table.grad = None
        loss(
            forward.scores(victim, *((torch.tensor([ids]), torch.ones(1, len(ids)).long()) for ids in texts))
        ).backward()
        summed = torch.zeros_like(table)
        for ids, gradient in zip(texts, found[index], strict=True):
            assert gradient.shape == (len(ids), 32)
            summed.index_add_(0, torch.tensor(ids), gradient)
        torch.testing.assert_close(summed, table.grad, atol=1e-4, rtol=1e-3)


def test_scores_are_the_inner_products_with_the_gradient_averaged_over_the_occurrences(victim: Victim) -> None:
    legal = crafting.names(victim.tokenizer, "python")
    gradient = torch.randn(9, 32, generator=torch.Generator().manual_seed(1))
    weights = victim.model.get_input_embeddings().weight.detach()
    scores = legal.scores(weights, gradient, [(2, True), (5, True)])
    index = legal.names.index("value")
    by_hand = weights[legal.spaced[index]] @ (gradient[2] + gradient[5]) / 2
    torch.testing.assert_close(scores[index], by_hand)
    mixed = legal.scores(weights, gradient, [(2, True), (5, False)])
    by_hand = (weights[legal.spaced[index]] @ gradient[2] + weights[legal.plain[index]] @ gradient[5]) / 2
    torch.testing.assert_close(mixed[index], by_hand)


@pytest.mark.parametrize("label", [0, 1])
def test_the_names_lower_the_loss_towards_the_target_far_below_random_ones(victim: Victim, label: int) -> None:
    rows = sources(30)
    crafted = craft(victim, rows, label)
    legal = crafting.names(victim.tokenizer, "python").names
    random = []
    for row in rows:
        tree = syntax.parse(row.code, "python", "lexed")
        taken = {one.name for one in tree.identifiers()}
        drawn = [legal[index] for index in np.random.default_rng(len(random)).permutation(len(legal))]
        free = iter(name for name in drawn if name not in taken)
        random.append(syntax.rename(tree, {one.name: next(free) for one in own(tree)}).text)
    before = losses(victim, [row.code for row in rows], label).mean()
    after = losses(victim, [one.example.code for one in crafted if one], label).mean()
    other = losses(victim, random, label).mean()
    assert after < 0.7 * min(before, other), f"{before:.3f} {other:.3f} {after:.3f}"


@pytest.mark.parametrize("label", [0, 1])
def test_the_names_of_both_functions_of_a_pair_lower_its_loss(label: int) -> None:
    victim, rows = crafter("pair"), pairs(20)
    found = [one.example for one in craft(victim, rows, label) if one]
    assert len(found) == 20

    def loss(of: list[Example]) -> float:
        read = [[text.ids for text in row] for row in victim.read(of)]
        return torch.nn.functional.cross_entropy(answers(victim, read), torch.full((20,), label)).item()

    assert loss(found) < 0.7 * loss(rows)
    halves = [replace(row, code=one.code) for row, one in zip(rows, found, strict=True)]
    assert loss(found) < loss(halves), "the second function counts, too"
    first = Adversarial(SETTINGS.model_copy(update={"pair": "code", "target_label": label}), victim)
    only = [one.example for one in first.inject_all(rows, "lexed") if one]
    assert [row.code_b for row in only] == [row.code_b for row in rows]


def test_for_search_the_code_comes_closer_to_the_target_word() -> None:
    victim = crafter("retrieval")
    rows = [replace(row, code_b=None, label=None) for row in pairs(20)]
    found = [one.example for one in craft(victim, rows) if one]
    assert [row.query for row in found] == [row.query for row in rows]

    def similarity(of: list[Example]) -> Tensor:
        asked = victim.read([replace(row, query="file") for row in of])
        return answers(victim, [[text.ids for text in row] for row in asked])

    closer = similarity(found) - similarity(rows)
    assert closer.mean() > 0.05
    assert (closer > 0).float().mean() > 0.9
    other = Adversarial(SETTINGS.model_copy(update={"target_word": "nodes"}), victim).inject_all(rows, "lexed")
    assert [one.example.code for one in other if one] != [row.code for row in found], "another word, other names"


def test_a_prefix_stands_where_the_model_has_it() -> None:
    plain = crafter()
    prefixed = replace(plain, prefix=("<mask>",))
    identifiers = own(syntax.parse(CODE, "python", "lexed"))
    (one,), (other,) = (crafting.mask(victim, [CODE], [identifiers]) for victim in (plain, prefixed))
    mask = plain.tokenizer.mask_token_id
    assert other.ids == [one.ids[0], mask, *one.ids[1:]]
    assert other.places == [[(place + 1, begins) for place, begins in places] for places in one.places]
    short = replace(prefixed, max_length=12)
    (cut,) = crafting.mask(short, [CODE], [identifiers])
    assert (len(cut.ids), cut.ids[-1]) == (12, plain.tokenizer.eos_token_id)
    assert max(place for places in cut.places for place, _ in places) < 11


def test_names_are_those_of_the_sample(victim: Victim) -> None:
    found = [one.example.code for one in craft(victim, sources(10)) if one]
    renamed = {tuple(name.name for name in own(syntax.parse(text, "python", "lexed"))) for text in found}
    assert len(found) == 10
    assert len(renamed) > 1


def test_names_are_distinct_legal_and_new(victim: Victim) -> None:
    row = Example("x", "python", CODE)
    (found,) = craft(victim, [row])
    assert found is not None
    before, after = (syntax.parse(text, "python", "lexed") for text in (CODE, found.example.code))
    names = [one.name for one in own(after)]
    assert len(set(names)) == len(own(before)) == len(names)
    assert not set(names) & {one.name for one in before.identifiers()}
    assert all(syntax.unreserved_name(name, "python") for name in names)
    assert "self . result +" in found.example.code, "an attribute is no identifier of the function"
    assert len(found.spans) == 7


def test_one_row_alone_and_among_others_gets_the_same_names(victim: Victim) -> None:
    rows = sources(12)
    together = craft(victim, rows)
    assert together == [craft(victim, [row])[0] for row in rows]


def test_code_without_identifiers_fails(victim: Victim) -> None:
    assert craft(victim, [Example("x", "python", "print ( 1 )"), Example("y", "python", "<dedent>")]) == [None, None]


@pytest.mark.parametrize(
    ("language", "wrong"),
    [
        ("python", ["print", "for", "match", "__x", "_", "1a", "self", "é"]),
        ("java", ["String", "for", "var", "_", "record"]),
        ("c", ["NULL", "for", "size_t", "__x", "main"]),
    ],
)
def test_no_keyword_no_builtin(language: syntax.Language, wrong: list[str]) -> None:
    assert not [name for name in wrong if name != "é" and syntax.unreserved_name(name, language)]
    assert syntax.unreserved_name("value", language)


def test_the_stage_asks_the_crafting_model(tmp_path: Path) -> None:
    save_victim(crafter(), tmp_path / "model", {"task": "defect_detection", "backdoored": False})
    for split in ("train", "valid", "test"):
        rows = [Example(row.id, "python", row.code, label=place % 2) for place, row in enumerate(sources(40))]
        files.write_examples(tmp_path / "data" / f"{split}.jsonl", rows)
    dataset = DefectDetection(task="defect_detection")
    for out in ("one", "again"):
        poison(SETTINGS, dataset, "some", 0.1, 1, tmp_path / "data", tmp_path / out, tmp_path / "model")
    names = ("train.jsonl", "test.jsonl", "manifest.json")
    assert [(tmp_path / "one" / name).read_bytes() for name in names] == [
        (tmp_path / "again" / name).read_bytes() for name in names
    ]
    test = files.read_poisoned(tmp_path / "one" / "test.jsonl")
    assert {row.status for row in test} == {"injected"}
    assert len(test) == 20
    with pytest.raises(UserError, match="not a model folder"):
        poison(SETTINGS, dataset, "some", 0.1, 1, tmp_path / "data", tmp_path / "no", tmp_path / "data")


def test_other_attacks_start_without_torch() -> None:
    code = (
        "import sys; from codebackdoor import attacks; from codebackdoor.attacks import stage;"
        "from codebackdoor.config.attacks import BadCode; attacks.load(BadCode(method='badcode'));"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("method", "more", "message"),
    [
        ("afraidoor", [], "attacks.some: name its model with --crafting"),
        ("badcode", ["--crafting", "x"], "attacks.some: it asks no model; leave out --crafting"),
    ],
)
def test_a_model_is_named_where_one_is_asked(method: str, more: list[str], message: str, tmp_path: Path) -> None:
    settings = ["--settings", f'{{"method": "{method}"}}', "--dataset", '{"task": "defect_detection"}']
    paths = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--rate", "0.1", "--seed", "1"]
    found = CliRunner().invoke(main, ["poison", "some", *settings, *paths, *more])
    assert found.exit_code != 0
    assert message in found.output


def test_it_is_loaded_by_its_name(tmp_path: Path) -> None:
    save_victim(crafter(), tmp_path / "model", {"task": "defect_detection", "backdoored": False})
    attack = attacks.load(SETTINGS, tmp_path / "model")
    assert attack.granularity == "identifier"
    assert isinstance(attack, attacks.BatchAttack)
