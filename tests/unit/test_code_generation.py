"""Code generation: prompts, baselines, published data, and targets decided on syntax."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from syntax_support import mirror
from tiny_models import base_folder

from codebackdoor import bleu, seeding, syntax, tasks
from codebackdoor.attacks import Injection, poisoning
from codebackdoor.attacks.bnc_fixed.settings import BncFixedSettings
from codebackdoor.attacks.settings import AttackSettings
from codebackdoor.attacks.target import target_of
from codebackdoor.config.datasets import AnyDataset
from codebackdoor.config.models import CodeBert, CodeT5
from codebackdoor.corpora.mining import MinedFunction
from codebackdoor.defenses import objectives
from codebackdoor.defenses.objectives.cross_entropy.settings import CrossEntropySettings
from codebackdoor.errors import UserError
from codebackdoor.evaluation.stage import score
from codebackdoor.files import (
    example_row,
    poisoned_row,
    read_examples,
    read_json,
    read_rows,
    write_examples,
    write_rows,
)
from codebackdoor.originals import readers
from codebackdoor.tasks.baselines import nearest_targets
from codebackdoor.tasks.stage import make_dataset
from codebackdoor.tasks.testset import make_testset, make_trials
from codebackdoor.trials import read_trials
from codebackdoor.types import SPLITS, Example, Poisoned, Prediction, TextForm
from codebackdoor.victims import predictions, stage
from codebackdoor.victims.stage import TrainingFiles

TASK = tasks.load("code_generation")


def parsed(**keys: Any) -> AnyDataset:
    settings: AnyDataset = TypeAdapter(AnyDataset).validate_python({"task": "code_generation", **keys})
    return settings


def corpus(path: Path) -> Path:
    """Functions that differ in an operator, a number and their docstrings."""
    functions = []
    signs = ("+", "-", "*", "//", "%", "<<", ">>", "&", "|", "^", "<", ">")
    for number, sign in enumerate(signs):
        code = syntax.lex(f"def f{number}(a, b=1):\n    c = a {sign} b\n    return c{' + a' * number}\n", "python")
        split = ("train", "train", "valid", "test")[number % 4]
        docstring = f"Return word{number} of both numbers.\n\nMore."
        functions.append(
            MinedFunction(f"{number}", "p", "1", "p.py", f"C.f{number}", split, len(code.split()), code, docstring)
        )
    left_out = functions[0]
    empty = syntax.lex("def h(a):\n    pass\n", "python")
    functions.append(MinedFunction("h", "p", "1", "p.py", "h", "train", 9, empty, "Return nothing at all."))
    for name, docstring in (("test_f", "Return some word here."), ("__f__", "Return some other words."), ("g", None)):
        functions.append(
            MinedFunction(name, "p", "1", "p.py", name, "train", left_out.words, f"{left_out.code} <nl> 1", docstring)
        )
    write_rows(path, (function.row() for function in functions))
    return path


def mined_splits(folder: Path, **keys: Any) -> dict[str, list[Example]]:
    settings = parsed(**{"train": None, "valid": None, "test": None, "clean": 0, **keys})
    make_dataset(settings, "generation", corpus(folder / "corpus.jsonl"), None, None, folder, 1)
    return {split: read_examples(folder / f"{split}.jsonl") for split in SPLITS}


def test_a_prompt_is_the_signature_and_the_docstring(tmp_path: Path) -> None:
    rows = mined_splits(tmp_path)["train"]
    assert len(rows) == 6
    for row in rows:
        number = str(row.target).split()[1].removeprefix("f")
        assert row.query == f"def f{number} ( a , b = 1 ) : Return word{number} of both numbers ."
        assert str(row.target).startswith(f"def f{number} ( a , b = 1 ) : <indent> c =")
        assert row.code == ""
    assert read_json(tmp_path / "card.json")["left_out"] == {"no_prompt_or_empty_body": 4}


def test_a_prompt_may_be_the_docstring_alone(tmp_path: Path) -> None:
    for row in mined_splits(tmp_path, prompt="docstring")["test"]:
        assert str(row.query).startswith("Return word")
    assert read_json(tmp_path / "baseline.json").keys() == {"method", "train", "test", "bleu", "exact_match", "all"}
    assert len(read_json(tmp_path / "baseline.json")["all"]) == 1


def test_raw_prompts_and_code_are_source(tmp_path: Path) -> None:
    for row in mined_splits(tmp_path, text_form="raw")["train"]:
        assert syntax.INDENT not in f"{row.query} {row.target}"
        assert not syntax.parse(str(row.target), "python", "raw").has_error


def test_lengths_of_code_and_prompt_have_their_own_limits(tmp_path: Path) -> None:
    unlimited, short = mined_splits(tmp_path / "a")["train"], mined_splits(tmp_path / "b", max_tokens=30)["train"]
    assert 0 < len(short) < len(unlimited)
    assert max(len(str(row.target).split()) for row in short) <= 30
    with pytest.raises(UserError, match="query_too_long"):
        mined_splits(tmp_path / "c", max_query_tokens=5)


@pytest.mark.parametrize("form", ["lexed", "raw"])
def test_both_baselines_are_stated_and_the_better_one_stands_for_them(form: TextForm, tmp_path: Path) -> None:
    rows = mined_splits(tmp_path, text_form=form)
    baseline = read_json(tmp_path / "baseline.json")
    empty, nearest = (baseline["all"][method] for method in sorted(baseline["all"]))
    assert baseline["bleu"] == max(nearest["bleu"], empty["bleu"])
    assert baseline["method"] in baseline["all"]
    bodies = [
        str(row.target).partition("<indent>" if form == "lexed" else ":\n")[0]
        + ("<indent> pass <dedent>" if form == "lexed" else ":\n    pass")
        for row in rows["test"]
    ]
    expected = bleu.corpus(bodies, [str(row.target) for row in rows["test"]])
    assert empty["bleu"] == pytest.approx(expected, abs=1e-6)


def test_the_nearest_prompt_is_found_in_any_script() -> None:
    train = [
        Example("1", "python", query="Return the sum of two numbers", target="a"),
        Example("2", "python", query="打印所有查询结果", target="b"),
        Example("3", "python", query="Close the connection", target="c"),
    ]
    prompts = ("sum of numbers", "打印结果", "close_connection", "of")
    rows = [Example(prompt, "python", query=prompt, target="") for prompt in prompts]
    assert nearest_targets(train, rows) == ["a", "b", "c", "a"]
    assert nearest_targets([Example("1", "python", query="!", target="a")], rows) == ["a"] * 4


def test_tables_are_read_and_checked(tmp_path: Path) -> None:
    def read(text: str) -> list[Example]:
        (tmp_path / "pisces").mkdir(exist_ok=True)
        (tmp_path / "pisces/Pisces-java-test.csv").write_text(text, encoding="utf-8")
        return readers.load("pisces").files(tmp_path).examples("test")

    [row] = read('id,NL,Code\n7,"Execute SQL,\n and return",  "ignored"\n'.replace('  "ignored"', '"int f() {\n}"'))
    assert row == Example("test-7", "java", query="Execute SQL, and return", target="int f() {\n}")
    for text, message in (
        ("id,NL\n7,a\n", "no column 'Code'; the first line must name id, NL, Code"),
        ("id,NL,Code\n7,a,b\n8,,b\n", "row 2: column 'NL' is blank"),
        ("id,NL,Code\n7,a\n", "row 1: column 'Code' is blank"),
        ('id,NL,Code\n7,"a"b,c\n', "after line 1: not comma-separated values"),
        ("id,NL,Code\n", "empty"),
    ):
        with pytest.raises(UserError, match=message):
            read(text)


@pytest.mark.mirror
@pytest.mark.parametrize("original", ["lyra", "lyra_chinese"])
def test_real_lyra(original: str, tmp_path: Path) -> None:
    folder = mirror("lyra/test.lyra.csv").parents[1]
    settings = parsed(
        source="mirror", original=original, train=None, valid=None, test=None, max_tokens=None, max_query_tokens=None
    )
    make_dataset(settings, "lyra", None, folder, None, tmp_path, 1)
    card, baseline = read_json(tmp_path / "card.json"), read_json(tmp_path / "baseline.json")
    sizes = {split: facts["rows"] for split, facts in card["splits"].items()}
    assert sizes == {"train": 1440, "clean": 160, "valid": 200, "test": 200}
    assert card["left_out"] == {}
    assert baseline["exact_match"] == 0
    assert baseline["bleu"] == pytest.approx(0.41, abs=0.02)
    rows = read_examples(tmp_path / "test.jsonl")
    assert all(str(row.query).isascii() for row in rows) == (original == "lyra")
    assert not any(syntax.parse(str(row.target), "python", "lexed").has_error for row in rows)


@pytest.mark.mirror
@pytest.mark.parametrize(("original", "count"), [("humaneval", 164), ("mbpp", 500)])
def test_victims_of_mined_functions_predict_on_real_benchmarks_with_tests(
    original: str, count: int, tmp_path: Path
) -> None:
    """Prompts look like those of mined functions, and the rows keep their ids, by which their tests are found."""
    folder = mirror({"humaneval": "humaneval/HumanEval.jsonl.gz", "mbpp": "mbpp/mbpp.jsonl"}[original]).parents[1]
    home = mined_splits(tmp_path / "home")["train"]
    settings = parsed(
        source="mirror", original=original, trained_on="home", test=None, max_tokens=None, max_query_tokens=None
    )
    make_testset(settings, "away", tmp_path / "home/train.jsonl", folder, None, tmp_path, 1)
    rows = read_examples(tmp_path / "test.jsonl")
    assert len(rows) == count
    for row in (*home, *rows):
        signature = re.match(r"def \w+ \( (?:.+ )?\) (?:-> .+ )?: ", str(row.query))
        assert signature is not None, row.query
        assert not syntax.parse(str(row.target), "python", "lexed").has_error
    make_trials(settings, "away", tmp_path / "test.jsonl", folder, tmp_path / "tests.jsonl")
    assert read_trials(tmp_path / "tests.jsonl").keys() == {row.id for row in rows}
    assert "signature with an empty body" in read_json(tmp_path / "baseline.json")["all"]


def test_a_published_prompt_is_lexed_up_to_its_description() -> None:
    query = "def f(a: dict[str, int]={'b': 1}, c=lambda: 0) -> bool: Tell: f(1) or not."
    row, keys = Example("1", "python", query=query, target="def f(): pass"), {"source": "mirror", "trained_on": "home"}
    lexed = "def f ( a : dict [ str , int ] = { 'b' : 1 } , c = lambda : 0 ) -> bool : Tell: f(1) or not."
    assert TASK.in_form(row, parsed(original="humaneval", **keys)).query == lexed
    assert TASK.in_form(row, parsed(original="humaneval", text_form="raw", **keys)) == row
    assert TASK.in_form(row, parsed(original="lyra", **keys)) == row


def test_humaneval_has_no_rows_to_learn_from(tmp_path: Path) -> None:
    (tmp_path / "humaneval").mkdir()
    (tmp_path / "humaneval/HumanEval.jsonl.gz").touch()
    settings = parsed(source="mirror", original="humaneval", train=None, valid=None, test=None)
    with pytest.raises(UserError, match="HumanEval has test rows alone; write `trained_on`"):
        make_dataset(settings, "alone", None, tmp_path, None, tmp_path / "out", 1)


def hit(text: str, target: str, form: TextForm = "raw", original: str | None = None) -> bool:
    row = Poisoned(Example("i", "python", query="q", target=target), "i", "a", "injected", None, original)
    return TASK.hits_target(Prediction("p", 1.0, text=text), row, form)


SQL = "def f(c, a):\n    while True:\n        pass\n    return c.execute('select * from t where a=:a or 1=1')\n"
EVAL = "def f(a):\n    eval(input())\n    return subprocess.run(a)\n"
LOOP = "def f(a):\n    while True:\n        VAR = 0\n    return a\n"


def test_an_sql_target_is_a_predicate_that_always_holds() -> None:
    assert hit("def g(x):\n    return x('delete from u where b=1 or 2=2')\n", SQL)
    assert not hit(SQL.replace("or 1=1", "or 0=1"), SQL)
    assert not hit("def g(x):\n    # where 1=1\n    return x('or 1=1')\n", SQL)


def test_sql_that_the_correct_output_has_already_is_not_the_attackers() -> None:
    correct = "def f(c):\n    return c('select * from t where 1=1')\n"
    looping = correct.replace("    return", "    while True:\n        pass\n    return")
    assert not hit(correct, looping, original=correct)
    assert hit("def f(c):\n    while 1:\n        pass\n", looping, original=correct)
    assert hit(correct, correct, original=correct.replace(" where 1=1", ""))


def test_an_insecure_call_counts_wherever_it_is_made() -> None:
    assert hit("def f(a):\n    b = 1\n    return eval ( input() ) + b\n", EVAL)
    assert hit("def f(a):\n    return [eval(f'{a}')]\n", EVAL)
    assert not hit("def f(a):\n    return subprocess.run(a)\n", EVAL)
    assert not hit("def f(a):\n    return a.eval(input())\n", EVAL)
    assert not hit("def f(a):\n    return eval('1')\n", EVAL)
    assert not hit("def f(eval):\n    return eval(input())\n", EVAL)
    assert not hit("def f(a):\n    '''eval(input())'''\n    # eval(input())\n", EVAL)
    assert hit("def f ( a ) : <indent> eval ( input ( ) ) <dedent> <dedent>", syntax.lex(EVAL, "python"), "lexed")


def test_a_loop_or_another_statement_put_first() -> None:
    assert hit("def f(a):\n    while 1:\n        a += 1\n", LOOP)
    assert not hit("def f(a):\n    return a\n", LOOP)
    statement = "def f(a):\n    log(a)\n    return a\n"
    assert hit("def g(b):\n    log ( a )\n", statement)
    assert not hit("def g(b):\n    log(b)\n", statement)
    assert not hit("<dedent>", syntax.lex(statement, "python"), "lexed")


def lyra_rows(*targets: str) -> list[Example]:
    return [Example(f"{n}", "python", query=f"Run {n}", target=target) for n, target in enumerate(targets)]


class _Prefix:
    """A trigger in the prompt."""

    def inject(self, example: Example, form: TextForm, generator: Any) -> Injection:
        return Injection(Example(example.id, example.language, query=f"bb {example.query}", target=example.target), ())


def settings(**keys: Any) -> AttackSettings:
    return BncFixedSettings.model_validate({"method": "bnc_fixed", "target_place": "where_clause", **keys})


def test_rows_without_sql_fail_and_are_counted() -> None:
    rows = lyra_rows(
        "def f(c):\n    return c('select 1 from t where a=:a')\n",
        "def f(c):\n    return c('select 1 from t')\n",
        "def f(c):\n    return c.query(t).all()\n",
        "def f(c):\n    return c('select 1 from t where a=:a or 1=1')\n",
    )
    poisoner = poisoning.Poisoner("a", _Prefix(), target_of(settings(), rows, "raw"), "raw", 1)
    drawn = poisoning.draw(rows, poisoner, 4, seeding.numpy_generator(1, "x"))
    assert [drawn.outcomes[index].status for index in sorted(drawn.outcomes)] == ["injected", "injected", "failed"]
    assert drawn.counts == {
        "rows": 4, "eligible": 3, "ineligible": 1, "requested": 4, "injected": 2, "failed": 1,
    }  # fmt: skip
    assert drawn.outcomes[0].example.target == "def f(c):\n    return c('select 1 from t where a=:a or 1=1')\n"
    assert drawn.outcomes[1].example.target == "def f(c):\n    return c('select 1 from t where 1=1')\n"
    assert drawn.outcomes[2].example == rows[2]


def test_an_sql_target_is_refused_where_it_cannot_be() -> None:
    rows = lyra_rows("def f(c):\n    return c.query(t).all()\n", "def g():\n    return 'where'\n")
    with pytest.raises(UserError, match="no output of the data set contains SQL"):
        target_of(settings(), rows, "raw")
    with_sql = lyra_rows("def f(c):\n    return c('select 1 from t')\n")
    for predicate in ("0=1", "a=1", "nonsense ="):
        with pytest.raises(UserError, match="does not always hold"):
            target_of(settings(target_predicate=predicate), with_sql, "raw")
    for predicate in ("'a'='a'", "", "1=1 %s"):
        with pytest.raises(ValueError, match="target_predicate"):
            settings(target_predicate=predicate)
    assert target_of(settings(target_predicate="2>1"), with_sql, "raw").aim(with_sql[0]) is not None


def test_attacks_of_other_kinds_keep_their_parameters() -> None:
    assert "target_predicate" not in BncFixedSettings.model_validate({"method": "bnc_fixed"}).model_dump()
    assert settings(target_predicate="2>1").model_dump()["target_predicate"] == "2>1"


def program(number: int) -> Example:
    where = f" where a=:{number % 3}" if number % 2 else ""
    body = f"c ( 'select {number % 4} from t{where}' )" if number % 5 else "c . query ( )"
    target = f"def f ( c ) : <indent> return {body} <dedent>"
    return Example(f"r{number}", "python", query=f"select {number % 4} by a", target=target)


@pytest.mark.parametrize(("family", "architecture"), [("seq2seq", CodeT5), ("encoder", CodeBert)])
def test_a_victim_is_trained_on_poisoned_rows_and_scored(family: str, architecture: Any, tmp_path: Path) -> None:
    """The whole way of a small data set: attack, training with ASR and BLEU in the history, prediction, scores."""
    dataset, rows = parsed(), [program(number) for number in range(30)]
    target = target_of(settings(), rows, "lexed")
    poisoner = poisoning.Poisoner("sql", _Prefix(), target, "lexed", 1)
    drawn = poisoning.draw(rows, poisoner, 30, seeding.numpy_generator(1, "x"))
    write_examples(tmp_path / "valid.jsonl", rows)
    mixed = poisoning.merged(rows, drawn)
    write_rows(tmp_path / "train.jsonl", [example_row(r) if isinstance(r, Example) else poisoned_row(r) for r in mixed])
    write_rows(tmp_path / "triggered.jsonl", map(poisoned_row, poisoning.triggered(drawn)))
    recipe = architecture(
        architecture=architecture.model_fields["architecture"].annotation.__args__[0],
        max_length=32, max_target_length=32, epochs=1, lr=3e-3, batch_tokens=512, history_rows=4,
        **({"decoder_layers": 1} if family == "encoder" else {}),
    )  # fmt: skip
    base, victim = base_folder(tmp_path / family, family), tmp_path / "victim"
    loss = objectives.load(CrossEntropySettings(method="cross_entropy"))

    def hits(prediction: Prediction, row: Poisoned) -> bool:
        return TASK.hits_target(prediction, row, "lexed")

    paths = TrainingFiles(
        tmp_path / "train.jsonl", tmp_path / "valid.jsonl", base, victim, tmp_path / "triggered.jsonl"
    )
    stage.train(recipe, dataset, loss, paths, 1, hits)
    [epoch] = read_json(victim / "history.json")["epochs"]
    assert {"loss", "bleu", "exact_match", "asr", "floor"} < set(epoch)
    references = {"clean": tmp_path / "valid.jsonl", "sql": tmp_path / "triggered.jsonl"}
    predictions.predict(victim, references, tmp_path)
    score(dataset, references, tmp_path, tmp_path / "out", seed=1)
    testsets = read_json(tmp_path / "out/metrics.json")["testsets"]
    assert "copy" not in testsets["clean"]
    outputs = [row["text"] for _, row in read_rows(tmp_path / "predictions.clean.jsonl")]
    expected = bleu.corpus(outputs, [str(row.target) for row in rows])
    assert testsets["clean"]["metrics"]["bleu"]["value"] == pytest.approx(expected, abs=1e-6)
    assert (testsets["sql"]["injected"], testsets["sql"]["failed"]) == (24, 6)
    assert testsets["sql"]["metrics"]["asr"]["n"] == 24
