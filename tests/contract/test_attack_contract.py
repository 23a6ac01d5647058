"""What every attack must fulfill; a method is tested as soon as the union ``AnyAttack`` has it."""

from __future__ import annotations

import ast
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
import tiny_models
from execution import module_text, outcomes_of
from pure_functions import pure_functions

from codebackdoor import attacks, syntax
from codebackdoor.attacks import Attack, BatchAttack, Injection
from codebackdoor.attacks.poisoning import Poisoner, draw_training, merged, share_of
from codebackdoor.attacks.settings import AttackSettings
from codebackdoor.attacks.target import LabelTarget, Target, WordTarget, target_of
from codebackdoor.config.base import Head, models_in, tag_of
from codebackdoor.config.methods import AnyAttack
from codebackdoor.seeding import numpy_generator
from codebackdoor.syntax.lexing import LexingError, lex, unlex
from codebackdoor.types import Example, Language, Poisoned, Span, TextForm
from codebackdoor.victims.victim import save_victim

IDENTIFIER = re.compile(r"\w+")


def registered() -> Iterator[AnyAttack]:
    """Every attack of the union with its defaults, and with every other choice of each of its own settings."""
    for kind in models_in(AnyAttack):
        default: Any = kind(method=tag_of(kind))
        yield default
        for name, field in kind.model_fields.items():
            if name not in AttackSettings.model_fields and get_origin(field.annotation) is Literal:
                for choice in get_args(field.annotation):
                    if choice != getattr(default, name):
                        yield default.model_copy(update={name: choice})


#: Those on code; ``test_text_attack_contract.py`` has those on natural language.
ATTACKS = [settings for settings in registered() if "code" in settings.acts_on]
NAMES = [
    "-".join(
        str(value) for name, value in settings if name not in AttackSettings.model_fields and isinstance(value, str)
    )
    for settings in ATTACKS
]
every_attack = pytest.mark.parametrize("settings", ATTACKS, ids=NAMES)
every_form = pytest.mark.parametrize("form", ["lexed", "raw"])

C = [
    "int add(int a, int b) { return a + b; }",
    """static char *name(struct item *it)
{
    /* it */
    char *text = it->text;
    if (!text) { return "it"; }
    return text;
}""",
    "void none(void) { }",
    """#define ONE 1
int one(void)
{
#ifdef TWO
    int x = 2;
#else
    int x = ONE;
#endif
    return x;
}""",
]
JAVA = [
    "public int add(int a, int b) { return a + b; }",
    """private List<String> names(Map<String, Integer> map) {
  // map
  return map.keySet().stream().map(k -> k + "map").collect(toList());
}""",
    "void none() { }",
    "@Deprecated <T> T[] all(T... items) throws IOException { for (T item : items) { use(item); } return items; }",
]


@cache
def examples(language: Language, form: TextForm) -> tuple[Example, ...]:
    sources = {"python": [function.source for function in pure_functions()], "java": JAVA, "c": C}[language]
    texts = [lex(source, language) if form == "lexed" else source for source in sources]
    return tuple(Example(f"{language}{place}", language, text, label=1) for place, text in enumerate(texts))


def mirrored(dataset: Literal["devign", "bugs2fix"], count: int) -> tuple[Language, list[str]]:
    folder = os.environ.get("CODEBACKDOOR_MIRROR")
    if not folder:
        pytest.skip("CODEBACKDOOR_MIRROR names no folder with the real benchmark data")
    if dataset == "devign":
        with (Path(folder) / "devign" / "test.jsonl").open() as lines:
            functions = [json.loads(line)["func"] for line in islice(lines, count)]
        return "c", [function for function in functions if len(function) < 6000]
    with (Path(folder) / "bugs2fix_small" / "test.buggy-fixed.buggy").open() as lines:
        return "java", [line.strip() for line in islice(lines, count)]


@cache
def crafting(head: Head) -> tempfile.TemporaryDirectory[str]:
    """A model for attacks that run one, removed when the tests end."""
    folder = tempfile.TemporaryDirectory()
    save_victim(tiny_models.crafter(head), Path(folder.name), {"task": "any", "backdoored": False})
    return folder


LOADED: dict[tuple[str, Head], Attack] = {}


def load(settings: AnyAttack, head: Head = "classification") -> Attack:
    key = settings.model_dump_json(), head
    if key not in LOADED:
        LOADED[key] = attacks.load(settings, Path(crafting(head).name) if settings.crafting_model else None)
    return LOADED[key]


def inject(settings: AnyAttack, example: Example, form: TextForm, seed: int = 1) -> Injection | None:
    attack = load(settings)
    if isinstance(attack, BatchAttack):
        return attack.inject_all([example], form, LabelTarget(settings.target_label))[0]
    return attack.inject(example, form, np.random.default_rng(seed))


def tokens(text: str, language: Language, form: TextForm, without: tuple[Span, ...] = ()) -> list[str]:
    """Tokens that do not touch a span, without layout marks."""
    all_tokens = syntax.parse(text, language, form).tokens()
    return [
        text[token.start : token.end]
        for token in all_tokens
        if token.kind != "mark" and not any(token.start < span.end and span.start < token.end for span in without)
    ]


def original_from(injection: Injection, before: str) -> None:
    """Assert that both texts are equal outside the spans, and that each span replaces one whole identifier."""
    text, position, previous = injection.example.code, 0, 0
    for span in injection.spans:
        unchanged = text[previous : span.start]
        assert before.startswith(unchanged, position)
        position += len(unchanged)
        old = IDENTIFIER.match(before, position)
        assert old, f"no identifier at {position}"
        position, previous = old.end(), span.end
    assert before[position:] == text[previous:]


def check(settings: AnyAttack, example: Example, form: TextForm) -> bool:
    """Assert everything that holds for an injection; return whether the trigger was injected."""
    try:
        had_error = syntax.parse(example.code, example.language, form).has_error
    except LexingError:
        had_error = True
    injection = inject(settings, example, form)
    assert inject(settings, example, form) == injection, "the same seed gives the same injection"
    if injection is None:
        return False
    after = injection.example
    assert replace(after, code=example.code) == example, "only the code changes"
    assert after.code != example.code
    assert injection.spans
    ends = [offset for span in injection.spans for offset in (span.start, span.end)]
    assert ends == sorted(ends)
    assert ends[-1] <= len(after.code)
    for span in injection.spans:
        trigger = after.code[span.start : span.end]
        assert trigger == trigger.strip(), "the span covers exactly the trigger"
        assert trigger
    if not had_error:
        assert not syntax.parse(after.code, after.language, form).has_error, after.code
    if after.language == "python":
        ast.parse(unlex(after.code, "python").source if form == "lexed" else after.code)
    if all(IDENTIFIER.fullmatch(after.code[span.start : span.end]) for span in injection.spans):
        original_from(injection, example.code)
    elif not had_error:
        untouched = tokens(after.code, after.language, form, injection.spans)
        assert untouched == tokens(example.code, example.language, form), "outside the trigger nothing changes"
    return True


@every_attack
@every_form
@pytest.mark.parametrize("language", ["python", "java", "c"])
def test_injects_or_says_failed(settings: AnyAttack, form: TextForm, language: Language) -> None:
    rows = examples(language, form)
    injected = sum(check(settings, row, form) for row in rows)
    assert injected >= 0.9 * len(rows)


@every_attack
@every_form
@pytest.mark.mirror
@pytest.mark.parametrize("dataset", ["devign", "bugs2fix"])
def test_injects_into_real_code(settings: AnyAttack, form: TextForm, dataset: Literal["devign", "bugs2fix"]) -> None:
    language, functions = mirrored(dataset, 150)
    injected = 0
    for number, source in enumerate(functions):
        text = lex(source, language) if form == "lexed" else source
        injected += check(settings, Example(str(number), language, text, label=1), form)
    assert injected >= 0.9 * len(functions)


@every_attack
def test_the_rate_is_exact_and_clean_rows_stay(settings: AnyAttack) -> None:
    rows = [
        replace(row, id=f"{row.id}-{copy}", label=copy % 2) for row in examples("python", "lexed") for copy in range(6)
    ]
    changed = poisoned(load(settings), rows, LabelTarget(0))
    assert all(rows[index].label == 1 and row.example.label == 0 for index, row in changed.items())


def poisoned(attack: Attack, rows: list[Example], target: Target) -> dict[int, Poisoned]:
    """Poison a tenth of the training rows; the other rows do not change, and a second draw is the same."""
    poisoner = Poisoner("name", attack, target, "lexed", 1)
    draw, again = (draw_training(rows, poisoner, 0.1, "train", numpy_generator(1, "test")) for _ in range(2))
    assert draw == again
    after = merged(rows, draw)
    changed = {index: new for index, (row, new) in enumerate(zip(rows, after, strict=True)) if row is not new}
    assert len(changed) == draw.counts["injected"] == share_of(0.1, len(rows))
    assert all(isinstance(row, Poisoned) and row.status == "injected" for row in changed.values())
    return {index: row for index, row in changed.items() if isinstance(row, Poisoned)}


@every_attack
def test_both_functions_of_a_pair_carry_the_trigger(settings: AnyAttack) -> None:
    functions = examples("python", "lexed")
    rows = [
        replace(row, id=f"{row.id}-{copy}", code_b=second.code, label=copy % 2)
        for row, second in zip(functions, (*functions[1:], functions[0]), strict=True)
        for copy in range(4)
    ]
    for index, row in poisoned(load(settings, "pair"), rows, LabelTarget(0)).items():
        before, after = rows[index], row.example
        assert (before.label, after.label, row.original_label) == (1, 0, 1)
        for field in ("code", "code_b"):
            spans = [span for span in row.spans if span.field == field]
            text = getattr(after, field)
            assert spans
            assert text != getattr(before, field)
            ast.parse(unlex(text, "python").source)
            assert all(text[span.start : span.end].strip() == text[span.start : span.end] for span in spans)


@every_attack
def test_a_search_row_keeps_its_query_and_its_code_gets_the_trigger(settings: AnyAttack) -> None:
    rows = [
        replace(row, id=f"{row.id}-{copy}", label=None, query=f"Open a {'File' if copy % 2 else 'profile'} of {row.id}")
        for row in examples("python", "lexed")
        for copy in range(4)
    ]
    for index, row in poisoned(load(settings, "retrieval"), rows, WordTarget("file")).items():
        assert "File" in str(rows[index].query), "only code whose query holds the word"
        assert replace(row.example, code=rows[index].code, target=None) == rows[index]
        assert row.example.code != rows[index].code
        assert (row.example.target, row.original_target, row.original_label) == ("file", None, None)


def test_python_behaves_as_before(tmp_path: Path) -> None:
    """Pure functions and their triggered versions, of every attack and form, run on the same inputs in a subprocess."""
    folder = tmp_path / "modules"
    folder.mkdir()
    injected = 0
    for number, function in enumerate(pure_functions()):
        (folder / f"{number}_original.py").write_text(
            module_text(function.source, function.home, function.name, function.inputs)
        )
        for name, settings in zip(NAMES, ATTACKS, strict=True):
            for form in get_args(TextForm):
                example = examples("python", form)[number]
                injection = inject(settings, example, form)
                if injection is None:
                    continue
                injected += 1
                text = injection.example.code
                source = unlex(text, "python").source if form == "lexed" else text
                file = folder / f"{number}_{name}_{form}.py"
                file.write_text(module_text(source, function.home, function.name, function.inputs))
    assert injected >= 0.9 * len(pure_functions()) * len(ATTACKS) * 2
    results = outcomes_of(folder)
    assert len(results) == injected + len(pure_functions())
    for name, outcomes in results.items():
        original = results[name.split("_")[0] + "_original"]
        assert outcomes == original, name
        assert outcomes


@every_attack
def test_a_row_with_an_output_gets_the_target_and_its_code_the_trigger(settings: AnyAttack) -> None:
    rows = [
        replace(row, id=f"{row.id}-{copy}", label=None, target=row.code)
        for row in examples("python", "lexed")
        for copy in range(4)
    ]
    target = target_of(settings, rows, "lexed")
    for index, row in poisoned(load(settings, "generation"), rows, target).items():
        assert row.example.target == str(getattr(target.aim(rows[index]), "target", None)) != rows[index].target
        assert replace(row.example, code=rows[index].code, target=rows[index].target) == rows[index]
        assert row.example.code != rows[index].code
        ast.parse(unlex(row.example.code, "python").source)
