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
from codebackdoor.attacks import Injection
from codebackdoor.attacks.afraidoor import crafting
from codebackdoor.attacks.afraidoor.method import Afraidoor
from codebackdoor.attacks.afraidoor.settings import AfraidoorSettings
from codebackdoor.attacks.poisoning import Poisoner
from codebackdoor.attacks.stage import poison
from codebackdoor.attacks.target import LabelTarget, WordTarget, target_of
from codebackdoor.cli import main
from codebackdoor.config.base import Head
from codebackdoor.config.model_settings import Pooling
from codebackdoor.errors import UserError
from codebackdoor.tasks.defect_detection.settings import DefectDetection
from codebackdoor.types import Example, TextForm
from codebackdoor.victims import forward
from codebackdoor.victims.gradients import input_gradients, towards_label, towards_query
from codebackdoor.victims.inference import class_logits, forced, predict_logits
from codebackdoor.victims.tokens import stand_in
from codebackdoor.victims.victim import Victim, save_victim

SETTINGS = AfraidoorSettings(method="afraidoor")
WORDS = ("first", "second", "result", "data", "node", "path", "count", "value")
CODE = "def total ( first , second ) : <indent> result = first + second <nl> return self . result + result <dedent>"


def sources(count: int) -> list[Example]:
    rows = []
    for number in range(count):
        a, b, c = np.random.default_rng(number).permutation(WORDS)[:3]
        text = f"def f ( {a} , {b} ) : <indent> {c} = {a} + {number} <nl> return {c} * {b} <dedent>"
        rows.append(Example(f"r{number}", "python", text, label=1))
    return rows


def pairs(count: int) -> list[Example]:
    """Rows that are pairs and have a query, for every head."""
    rows = sources(count + 1)
    return [
        replace(row, code_b=second.code, query=f"the {WORDS[index % 8]} of a file")
        for index, (row, second) in enumerate(pairwise(rows))
    ]


@pytest.fixture(scope="module")
def victim() -> Victim:
    return crafter()


def craft(victim: Victim, rows: list[Example], label: int = 0, form: TextForm = "lexed") -> list[Injection | None]:
    settings = SETTINGS.model_copy(update={"target_label": label})
    return Afraidoor(settings, victim).inject_all(rows, form, LabelTarget(label))


def losses(victim: Victim, texts: list[str], label: int) -> Tensor:
    logits = class_logits(victim, [encoded.ids for encoded in victim.encode(texts)])
    return torch.nn.functional.cross_entropy(logits, torch.full((len(texts),), label), reduction="none")


def renameable(tree: syntax.Tree) -> list[syntax.Identifier]:
    return [identifier for identifier in tree.identifiers() if identifier.renameable]


def test_every_identifier_is_one_mask_at_all_its_places(victim: Victim) -> None:
    identifiers = renameable(syntax.parse(CODE, "python", "lexed"))
    (masked,) = crafting.mask(victim, [CODE], [identifiers])
    _, unknown = stand_in(victim.tokenizer, "unknown")
    assert [identifier.name for identifier in identifiers] == ["total", "first", "second", "result"]
    assert [len(positions) for positions in masked.occurrences] == [1, 2, 2, 2]
    assert {masked.ids[position] for positions in masked.occurrences for position, _ in positions} == {unknown}
    assert masked.ids.count(unknown) == 7, "the attribute of the same spelling stays"
    rest = victim.tokenizer.decode(
        [token for token in masked.ids if token != unknown], skip_special_tokens=True
    ).split()
    assert " ".join(rest) == "def ( , ) : <indent> = + <nl> return self . result + <dedent>"


def test_occurrences_behind_the_longest_input_count_for_nothing(victim: Victim) -> None:
    identifiers = renameable(syntax.parse(CODE, "python", "lexed"))
    short = replace(victim, max_length=12)
    (masked,) = crafting.mask(short, [CODE], [identifiers])
    assert len(masked.ids) == 12
    assert masked.ids[-1] == victim.tokenizer.eos_token_id
    assert [len(positions) for positions in masked.occurrences] == [1, 1, 1, 1]


def test_a_word_behind_a_bracket_is_another_piece(victim: Victim) -> None:
    text = "def f(value):\n    return [value]\n"
    identifiers = renameable(syntax.parse(text, "python", "raw"))
    (masked,) = crafting.mask(victim, [text], [identifiers])
    assert [[begins for _, begins in positions] for positions in masked.occurrences] == [[True], [False, False]]


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("head", ["classification", "pair", "retrieval"])
def test_gradients_are_those_of_each_row_alone(head: Head, pooling: Pooling) -> None:
    """Against one row at a time, without padding, through the embedding table itself."""
    victim = crafter(head, pooling=pooling)
    rows = [[list(text.ids) for text in row] for row in victim.tokenize(pairs(5))]
    loss = towards_query if head == "retrieval" else towards_label(1)
    gradients = dict(input_gradients(victim, rows, loss))
    assert sorted(gradients) == list(range(5))
    table = victim.model.get_input_embeddings().weight
    for index, texts in enumerate(rows):
        table.grad = None
        loss(
            forward.scores(victim, *((torch.tensor([ids]), torch.ones(1, len(ids)).long()) for ids in texts))
        ).backward()
        summed = torch.zeros_like(table)
        for ids, gradient in zip(texts, gradients[index], strict=True):
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
        used_names = {identifier.name for identifier in tree.identifiers()}
        shuffled = [legal[index] for index in np.random.default_rng(len(random)).permutation(len(legal))]
        free = iter(name for name in shuffled if name not in used_names)
        random.append(syntax.rename(tree, {identifier.name: next(free) for identifier in renameable(tree)}).text)
    before = losses(victim, [row.code for row in rows], label).mean()
    after = losses(victim, [injection.example.code for injection in crafted if injection], label).mean()
    with_random_names = losses(victim, random, label).mean()
    assert after < 0.7 * min(before, with_random_names), f"{before:.3f} {with_random_names:.3f} {after:.3f}"


@pytest.mark.parametrize("label", [0, 1])
def test_the_names_of_both_functions_of_a_pair_lower_its_loss(label: int) -> None:
    victim, rows = crafter("pair"), pairs(20)
    poisoned = [injection.example for injection in craft(victim, rows, label) if injection]
    assert len(poisoned) == 20

    def loss(examples: list[Example]) -> float:
        texts = [[text.ids for text in row] for row in victim.tokenize(examples)]
        return torch.nn.functional.cross_entropy(predict_logits(victim, texts), torch.full((20,), label)).item()

    assert loss(poisoned) < 0.7 * loss(rows)
    halves = [replace(row, code=new.code) for row, new in zip(rows, poisoned, strict=True)]
    assert loss(poisoned) < loss(halves), "the second function counts, too"
    first = Afraidoor(SETTINGS.model_copy(update={"pair": "code", "target_label": label}), victim)
    first_only = [injection.example for injection in first.inject_all(rows, "lexed", LabelTarget(label)) if injection]
    assert [row.code_b for row in first_only] == [row.code_b for row in rows]


def test_for_search_the_code_comes_closer_to_the_target_word() -> None:
    victim = crafter("retrieval")
    rows = [replace(row, code_b=None, label=None) for row in pairs(20)]
    poisoned = [injection.example for injection in craft(victim, rows) if injection]
    assert [row.query for row in poisoned] == [row.query for row in rows]

    def similarity(examples: list[Example]) -> Tensor:
        texts = victim.tokenize([replace(row, query="file") for row in examples])
        return predict_logits(victim, [[text.ids for text in row] for row in texts])

    closer = similarity(poisoned) - similarity(rows)
    assert closer.mean() > 0.05
    assert (closer > 0).float().mean() > 0.9
    settings = SETTINGS.model_copy(update={"target_word": "nodes"})
    injections = Afraidoor(settings, victim).inject_all(rows, "lexed", WordTarget("nodes"))
    assert [injection.example.code for injection in injections if injection] != [row.code for row in poisoned], (
        "another word, other names"
    )


def smooth(victim: Victim) -> Victim:
    """The weights of a fresh model, whose loss is nearly linear, so that a gradient says what all new names do."""
    for name, parameter in victim.model.named_parameters():
        if parameter.ndim > 1 and "position" not in name:
            parameter.data /= 10
    return victim


@pytest.mark.parametrize("place", ["whole", "first_statement"])
def test_for_a_victim_that_writes_the_target_s_output_becomes_likelier(place: str) -> None:
    victim = smooth(crafter("generation"))
    rows = [replace(row, label=None, target=row.code) for row in sources(16)]
    settings = SETTINGS.model_copy(update={"target_place": place})
    target = target_of(settings, rows, "lexed")
    injections = Afraidoor(settings, victim).inject_all(rows, "lexed", target)
    poisoned = [injection.example for injection in injections if injection]
    assert len(poisoned) == 16
    assert [row.target for row in poisoned] == [row.target for row in rows], "the target is set when the row is aimed"
    outputs = victim.encode_targets([str(aimed.target) for row in rows if (aimed := target.aim(row))])

    def losses(examples: list[Example], targets: list[list[int]]) -> Tensor:
        texts = [row[0].ids for row in victim.tokenize(examples)]
        return -forced(victim, texts, targets)[:, 1]

    gain = losses(rows, outputs) - losses(poisoned, outputs)
    assert (gain > 0).float().mean() > 0.8
    # what arbitrary names bring about
    legal = crafting.names(victim.tokenizer, "python").names
    random = []
    for number, row in enumerate(rows):
        tree = syntax.parse(row.code, "python", "lexed")
        free = iter(legal[index] for index in np.random.default_rng(number).permutation(len(legal)))
        renamed = syntax.rename(tree, {identifier.name: next(free) for identifier in renameable(tree)})
        random.append(replace(row, code=renamed.text))
    assert losses(poisoned, outputs).mean() < losses(random, outputs).mean()


def test_a_row_that_cannot_get_the_target_fails() -> None:
    victim = crafter("generation")
    rows = [replace(row, label=None, target=row.code) for row in sources(2)]
    rows.append(replace(rows[0], id="no", target="x"))
    settings = SETTINGS.model_copy(update={"target_place": "first_statement"})
    injections = Afraidoor(settings, victim).inject_all(rows, "lexed", target_of(settings, rows, "lexed"))
    assert [injection is not None for injection in injections] == [True, True, False]


def test_rows_without_sql_fail_and_are_counted_also_where_all_rows_at_hand_are_such() -> None:
    rows = [replace(row, label=None, target=row.code) for row in sources(3)]
    with_sql = replace(rows[0], id="sql", target="def f ( c ) : <indent> return c ( 'select a from b' ) <dedent>")
    settings = SETTINGS.model_copy(update={"target_place": "where_clause"})
    target = target_of(settings, [*rows, with_sql], "lexed")
    poisoner = Poisoner("afraidoor", Afraidoor(settings, crafter("generation")), target, "lexed", 1)
    assert [row.status for row in poisoner.poison_all(rows)] == ["failed"] * 3
    assert poisoner(with_sql).status == "injected"


def test_a_crafting_model_that_does_not_fit_the_data_is_refused() -> None:
    import yaml
    from pydantic import ValidationError

    from codebackdoor.config.study import Config

    raw = yaml.safe_load(Path("config.yaml").read_text())
    raw["models"]["unixcoder"] = {"architecture": "unixcoder"}
    raw["attacks"]["afraidoor"] = {"method": "afraidoor", "crafting": "unixcoder"}
    raw["experiments"]["repair"]["grid"][0]["attacks"] = ["afraidoor"]
    raw["experiments"]["repair"]["grid"][0]["objectives"] = ["cross_entropy"]
    with pytest.raises(ValidationError, match=r"attacks.afraidoor.crafting: 'unixcoder' works on .* name a model that"):
        Config.model_validate(raw)
    raw["attacks"]["afraidoor"]["crafting"] = "codet5"
    Config.model_validate(raw)


def test_a_prefix_stands_where_the_model_has_it() -> None:
    plain = crafter()
    prefixed = replace(plain, prefix=("<mask>",))
    identifiers = renameable(syntax.parse(CODE, "python", "lexed"))
    (without_prefix,), (with_prefix,) = (crafting.mask(victim, [CODE], [identifiers]) for victim in (plain, prefixed))
    mask = plain.tokenizer.mask_token_id
    assert with_prefix.ids == [without_prefix.ids[0], mask, *without_prefix.ids[1:]]
    assert with_prefix.occurrences == [
        [(position + 1, begins) for position, begins in positions] for positions in without_prefix.occurrences
    ]
    short = replace(prefixed, max_length=12)
    (cut,) = crafting.mask(short, [CODE], [identifiers])
    assert (len(cut.ids), cut.ids[-1]) == (12, plain.tokenizer.eos_token_id)
    assert max(position for positions in cut.occurrences for position, _ in positions) < 11


def test_names_are_those_of_the_sample(victim: Victim) -> None:
    texts = [injection.example.code for injection in craft(victim, sources(10)) if injection]
    renamed = {tuple(name.name for name in renameable(syntax.parse(text, "python", "lexed"))) for text in texts}
    assert len(texts) == 10
    assert len(renamed) > 1


def test_names_are_distinct_legal_and_new(victim: Victim) -> None:
    row = Example("x", "python", CODE)
    (injection,) = craft(victim, [row])
    assert injection is not None
    before, after = (syntax.parse(text, "python", "lexed") for text in (CODE, injection.example.code))
    names = [identifier.name for identifier in renameable(after)]
    assert len(set(names)) == len(renameable(before)) == len(names)
    assert not set(names) & {identifier.name for identifier in before.identifiers()}
    assert all(syntax.unreserved_name(name, "python") for name in names)
    assert "self . result +" in injection.example.code, "an attribute is no identifier of the function"
    assert len(injection.spans) == 7


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
        rows = [Example(row.id, "python", row.code, label=index % 2) for index, row in enumerate(sources(40))]
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
        "from codebackdoor.attacks.badcode.settings import BadCodeSettings;"
        "attacks.load(BadCodeSettings(method='badcode'));"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("afraidoor", [], "attacks.some: name the crafting model with --crafting"),
        ("badcode", ["--crafting", "x"], "attacks.some: this attack needs no model; omit --crafting"),
    ],
)
@pytest.mark.parametrize(
    ("command", "inputs"),
    [("poison", ["--data", "data", "--rate", "0.1"]), ("trigger", ["--train", "train.jsonl", "--rows", "test.jsonl"])],
)
def test_a_model_is_named_where_one_is_needed(
    command: str, inputs: list[str], method: str, options: list[str], message: str, tmp_path: Path
) -> None:
    settings = ["--settings", f'{{"method": "{method}"}}', "--dataset", '{"task": "defect_detection"}']
    out = ["--out", str(tmp_path / "out"), "--seed", "1"]
    result = CliRunner().invoke(main, [command, "some", *settings, *inputs, *out, *options])
    assert result.exit_code != 0
    assert message in result.output


def test_it_is_loaded_by_its_name(tmp_path: Path) -> None:
    save_victim(crafter(), tmp_path / "model", {"task": "defect_detection", "backdoored": False})
    attack = attacks.load(SETTINGS, tmp_path / "model")
    assert isinstance(attack, attacks.BatchAttack)
