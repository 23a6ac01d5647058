"""What a data set must be, whatever its source: balanced, without leaks, the same bytes from the same seed."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import TypeAdapter
from tokenizers import Tokenizer, models, pre_tokenizers

from codebackdoor import syntax, tasks
from codebackdoor.cli import main
from codebackdoor.config.datasets import AnyDataset
from codebackdoor.corpora.mining import MinedFunction, clone_key
from codebackdoor.errors import UserError
from codebackdoor.files import read_examples, read_json, write_rows
from codebackdoor.syntax import lexing
from codebackdoor.tasks.baselines import ngrams
from codebackdoor.tasks.deduplication import normal_key
from codebackdoor.tasks.stage import make_dataset
from codebackdoor.types import Example, Poisoned, Prediction

SPLITS = ("train", "valid", "test", "clean")
STATEMENTS = (
    "total = total + weigh(item, total)",
    "if total < limit:\n        total = item",
    "for one in items:\n        total = clamp(one, limit)",
    "item = items[total] if total else limit",
)

WORDS = ("weigh", "limit", "clamp", "items")


def functions(count: int) -> Iterator[MinedFunction]:
    """Functions of different structure: their statements are the digits of their number."""
    for number in range(4**4, 4**4 + count):
        digits = [STATEMENTS[number // 4**power % 4] for power in range(5)]
        source = f"def f{number}(items, item, total, limit):\n    " + "\n    ".join([*digits, "return total"])
        words = lexing.words(source, "python")
        split = ("train", "train", "train", "valid", "test")[number % 5]
        key, name = clone_key(words), f"f{number}"
        subject = " ".join(WORDS[number // 4**power % 4] for power in range(5))
        docstring = f"In a file {subject}.\n\nAnd more." if number % 2 else None
        yield MinedFunction(
            key, "shop", "1.0", f"shop/{number}.py", name, split, len(words), " ".join(words), docstring
        )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    write_rows(path, (function.row() for function in functions(300)))
    return path


def make(out: Path, corpus: Path | None = None, *, seed: int = 1, mirror: Path | None = None, **keys: Any) -> Path:
    keys = {"task": "defect_detection", "train": 100, "valid": 20, "test": 30, "max_tokens": 200, **keys}
    settings: AnyDataset = TypeAdapter(AnyDataset).validate_python(keys)
    make_dataset(settings, "shop", corpus, mirror, None, out, seed)
    return out


def rows_of(folder: Path) -> dict[str, list[Example]]:
    return {split: read_examples(folder / f"{split}.jsonl") for split in SPLITS}


def keys_of(row: Example, form: Any = "lexed") -> set[str]:
    texts = (row.code, row.code_b, row.target)
    return {normal_key(syntax.parse(text, row.language, form)) for text in texts if text is not None}


@pytest.fixture(scope="module")
def defects(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("defects"), corpus)


@pytest.fixture(scope="module")
def repairs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("repairs"), corpus, task="code_repair")


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # the next release of every sixth function has another last line
    path = tmp_path_factory.mktemp("releases") / "corpus.jsonl"
    rows = [function.row() for function in functions(300)]
    for row in rows[::6]:
        words = str(row["code"]).replace("return total", "return item").split(" ")
        rows.append({**row, "version": "1.1", "id": clone_key(words), "code": " ".join(words)})
    write_rows(path, rows)
    return path


@pytest.fixture(scope="module")
def clones(releases: Path) -> Path:
    return make(releases.parent / "clones", releases, task="clone_detection", overlap=[0.3, 1.0], test=32)


@pytest.fixture(scope="module")
def search(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("search"), corpus, task="code_search", pool=10)


def test_no_function_alone_tells_whether_a_pair_is_a_clone(clones: Path) -> None:
    rows = rows_of(clones)
    assert {split: len(some) for split, some in rows.items()} == {"train": 92, "valid": 20, "test": 32, "clean": 8}
    for some in rows.values():
        labels = Counter((text, row.label) for row in some for text in (row.code, str(row.code_b)))
        assert set(labels.values()) == {1}
        assert all((text, 1 - int(label or 0)) in labels for text, label in labels)
    # no side is that of the rewritten one
    real = {function.code for function in functions(300)}
    assert 20 < sum(row.code in real for row in rows["train"]) < 72
    card = read_json(clones / "card.json")
    assert set(card["rewritings"]["train"]) >= {"names", "release"}


def test_functions_of_a_pair_are_in_no_other_split(clones: Path) -> None:
    names = [{row.code for row in some} | {row.code_b for row in some} for some in rows_of(clones).values()]
    assert sum(map(len, names)) == len(set().union(*names))


def test_search_rows_are_functions_with_their_queries(search: Path, corpus: Path) -> None:
    rows = rows_of(search)
    docstrings = {function.code: function.docstring for function in functions(300)}
    for some in rows.values():
        for row in some:
            assert row.query == str(docstrings[row.code]).split("\n")[0].replace(".", " .")
            assert (row.label, row.target, row.code_b) == (None, None, None)
    card, baseline = read_json(search / "card.json"), read_json(search / "baseline.json")
    assert card["splits"]["test"]["query_words"]["file"] == len(rows["test"])
    assert card["left_out"]["no_query"] > 0
    assert sum(baseline["pools"]) == len(rows["test"]) == 30
    assert min(baseline["pools"]) == 10
    # every query names its function
    assert baseline["mrr"] > baseline["chance"]


def test_long_queries_are_left_out(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="query_too_long"):
        make(tmp_path / "out", corpus, task="code_search", max_query_tokens=3)


def test_token_overlap_tells_clones_from_random_pairs_and_not_from_similar_ones(
    clones: Path, releases: Path, tmp_path: Path
) -> None:
    hard = read_json(clones / "baseline.json")
    keys = {"overlap": [0.3, 1.0], "test": 32, "negatives": "random"}
    easy = read_json(make(tmp_path / "random", releases, task="clone_detection", **keys) / "baseline.json")
    assert hard["majority"] == easy["majority"] == 0.5
    # calling everything a clone is 2/3
    assert hard["f1"] <= 0.8
    assert min(hard["random_f1"], easy["f1"]) > hard["f1"] + 0.1


def test_defects_are_paired_and_balanced_in_every_split(defects: Path) -> None:
    rows = rows_of(defects)
    assert {split: len(some) for split, some in rows.items()} == {"train": 90, "valid": 20, "test": 30, "clean": 10}
    for some in rows.values():
        assert Counter(row.label for row in some) == {0: len(some) // 2, 1: len(some) // 2}
        names = Counter((row.code.split()[1], row.label) for row in some)
        assert all(names[name, 1 - label] == 1 for name, label in names)


def test_ids_and_order_give_no_pair_away(corpus: Path, defects: Path) -> None:
    rows = rows_of(defects)
    ids = [row.id for some in rows.values() for row in some]
    assert len(set(ids)) == len(ids)
    assert not set(ids) & {function.id for function in functions(300)}
    adjacent = sum(first.code.split()[1] == second.code.split()[1] for first, second in pairwise(rows["train"]))
    assert adjacent < 10
    # an order of ids must not tell the label either
    labels = [row.label for row in sorted(rows["train"], key=lambda row: row.id)]
    assert 20 < sum(first != second for first, second in pairwise(labels)) < 70


@pytest.mark.parametrize("name", ["defects", "repairs", "clones", "search"])
def test_no_normalised_duplicate_in_two_splits(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    keys = [set().union(*map(keys_of, some)) for some in rows_of(folder).values()]
    assert len(set().union(*keys)) == sum(map(len, keys))
    assert read_json(folder / "card.json")["groups_with_a_duplicate_in_another_split"] == 0


def test_a_mutant_that_is_a_function_of_another_split_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    rows = [function.row() for function in functions(60)]
    for name, sign, split in (("plus", "+", "test"), ("minus", "-", "train")):
        words = f"def {name} ( a , b ) : <indent> return a {sign} b <dedent>".split()
        rows.append({**rows[0], "id": clone_key(words), "split": split, "words": len(words), "code": " ".join(words)})
    write_rows(path, rows)
    mix = {"operator": 1, "variable": 0, "arguments": 0, "condition": 0}
    dataset = rows_of(make(tmp_path / "out", path, mix=mix, test=None, train=None, valid=None, mutants=[1, 0, 0]))
    assert any("plus" in row.code for row in dataset["test"])
    assert not any("minus" in row.code for split in ("train", "clean") for row in dataset[split])


def test_repairs_have_one_slip_and_the_correct_function_as_target(repairs: Path) -> None:
    rows = rows_of(repairs)
    assert [len(rows[split]) for split in ("valid", "test")] == [20, 30]
    # two rows of one function do not fit where one is left
    assert 99 <= len(rows["train"]) + len(rows["clean"]) <= 100
    real = {function.code for function in functions(300)}
    for some in rows.values():
        assert all(row.target in real and row.code not in real and row.label is None for row in some)
    targets = Counter(row.target for row in rows["train"])
    assert max(targets.values()) == 2
    assert len({row.target for row in rows["test"]}) == len(rows["test"])


def test_all_rows_of_a_function_are_clean_samples_or_none(repairs: Path) -> None:
    rows = rows_of(repairs)
    assert not {row.target for row in rows["train"]} & {row.target for row in rows["clean"]}


def test_same_seed_same_bytes_other_seed_other_rows(corpus: Path, defects: Path, tmp_path: Path) -> None:
    again, other_seed = make(tmp_path / "again", corpus), make(tmp_path / "other", corpus, seed=2)
    for path in sorted(defects.iterdir()):
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name
    assert (other_seed / "train.jsonl").read_bytes() != (defects / "train.jsonl").read_bytes()


def test_a_function_keeps_its_mutant_when_sizes_change(corpus: Path, defects: Path, tmp_path: Path) -> None:
    more = {row.id: row for row in read_examples(make(tmp_path, corpus, test=60) / "test.jsonl")}
    assert all(more[row.id] == row for row in read_examples(defects / "test.jsonl"))


def test_the_card_says_what_is_there(defects: Path) -> None:
    card = read_json(defects / "card.json")
    for split, some in rows_of(defects).items():
        facts = card["splits"][split]
        assert facts["rows"] == len(some)
        assert facts["labels"] == {"0": len(some) // 2, "1": len(some) // 2}
        assert facts["code_characters"]["max"] == max(len(row.code) for row in some)
        slips = card["mutations"][split]["slips_per_function"]
        assert sum(slips.values()) == len(some) // 2
        assert sum(card["mutations"][split]["kinds"].values()) == sum(int(n) * count for n, count in slips.items())
        assert card["origins"][split] == {"shop 1.0": len(some) // 2}
    assert card["settings"]["text_form"] == "lexed"
    assert card["seed"] == 1
    assert list(card["read"]) == ["corpus.jsonl"]


def test_baselines(defects: Path, repairs: Path) -> None:
    grams, copy = read_json(defects / "baseline.json"), read_json(repairs / "baseline.json")
    assert grams["majority"] == 0.5
    rows = rows_of(defects)
    assert grams == ngrams(rows["train"], rows["test"])
    assert copy["exact_match"] == 0
    assert copy["test"] == len(read_examples(repairs / "test.jsonl"))


def test_no_row_is_longer_than_max_tokens_in_the_tokenizers_count(corpus: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"x": 0}, unk_token="x"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    texts = {"lexed": [function.code for function in functions(300)]}
    texts["raw"] = [syntax.unlex(text, "python").source for text in texts["lexed"]]
    for form, some in texts.items():
        limit = sorted(len(tokenizer.encode(text).ids) for text in some)[200]
        keys = {"task": "code_repair", "max_tokens": limit, "text_form": form, "test": 4, "valid": 4}
        settings: AnyDataset = TypeAdapter(AnyDataset).validate_python(keys)
        make_dataset(settings, "shop", corpus, None, tmp_path, tmp_path / form, 1)
        rows = [row for split in rows_of(tmp_path / form).values() for row in split]
        lengths = [len(tokenizer.encode(text).ids) for row in rows for text in (row.code, str(row.target))]
        assert max(lengths) == limit
        card = read_json(tmp_path / form / "card.json")
        assert card["length_unit"] == "sub-tokens"
        assert card["left_out"]["too_long"] > 50


def test_raw_rows_are_source(corpus: Path, tmp_path: Path) -> None:
    rows = rows_of(make(tmp_path, corpus, text_form="raw"))
    for row in rows["test"]:
        assert "<indent>" not in row.code
        assert not syntax.parse(row.code, "python", "raw").has_error


def test_fewer_rows_than_asked_for_are_all_taken_with_a_warning(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        make(tmp_path, corpus, test=5000)
    assert "test has" in caplog.text
    assert "of the 5000 configured" in caplog.text


def test_a_split_without_rows_is_refused_and_nothing_is_written(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no row is left for train \(.*too_long"):
        make(tmp_path / "out", corpus, max_tokens=5)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [({}, "--corpus"), ({"source": "mirror", "language": "c"}, "write it as `mirror`")],
)
def test_a_source_that_is_not_there_is_said(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        make(tmp_path, **keys)


def own_rows(folder: Path, count: int = 20, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    mined = list(functions(3 * count))
    for part, split in enumerate(("train", "valid", "test")):
        rows = [
            {"id": f"{split}{number}", "language": "python", "code": function.code, "label": number % 2}
            for number, function in enumerate(mined[part * count : (part + 1) * count])
        ]
        rows[3] |= changes if split == "valid" else {}
        write_rows(folder / f"{split}.jsonl", rows)
    return folder


def test_own_rows_keep_ids_and_splits(tmp_path: Path) -> None:
    folder = own_rows(tmp_path / "own")
    rows = rows_of(make(tmp_path / "out", source="jsonl", path=folder, train=None, valid=None, test=None))
    ids = {split: {row.id for row in read_examples(folder / f"{split}.jsonl")} for split in ("train", "valid", "test")}
    assert {row.id for row in rows["train"] + rows["clean"]} == ids["train"]
    assert {row.id for row in rows["test"]} == ids["test"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "1"}, r"valid\.jsonl:4: field 'label' must be int"),
        ({"label": True}, r"valid\.jsonl:4: field 'label' must be int"),
        ({"label": 2}, r"valid\.jsonl: row 'valid3' needs a 'label', 0 \(no defect\) or 1 \(defective\), not 2"),
        ({"label": None}, r"row 'valid3' needs a 'label'"),
        ({"target": "x"}, r"row 'valid3' has a 'target', which this task does not use"),
        ({"language": "c"}, r"row 'valid3' is in c; the data set's `language` is python"),
        ({"id": "train1"}, r"row 'train1' occurs twice"),
        ({"cod": "x"}, r"valid\.jsonl:4: unknown field 'cod'"),
    ],
)
def test_bad_rows_of_ones_own_are_one_clear_error(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = own_rows(tmp_path / "own", **changes)
    with pytest.raises(UserError, match=message):
        make(tmp_path / "out", source="jsonl", path=folder)
    assert not (tmp_path / "out").exists()


def test_a_broken_line_names_file_and_line(tmp_path: Path) -> None:
    folder = own_rows(tmp_path / "own")
    with (folder / "train.jsonl").open("a") as stream:
        stream.write("{'id': 1}\n")
    with pytest.raises(UserError, match=r"train\.jsonl:21: not JSON"):
        make(tmp_path / "out", source="jsonl", path=folder)


def test_the_wrong_text_form_is_suspected(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = own_rows(tmp_path / "own", code="def f(a):\n    if a:\n        return 1\n    else:\n        return 2\n")
    with caplog.at_level(logging.WARNING):
        make(tmp_path / "out", source="jsonl", path=folder, text_form="raw")
    assert "Is `text_form` right?" in caplog.text


def write_devign(folder: Path, count: int) -> None:
    (folder / "devign").mkdir(parents=True)
    bodies = [f"int f{number}(int a)\n{{\n  {'a++; ' * number}return a;\n}}\n" for number in range(count)]
    rows = [{"func": body, "target": number % 2, "idx": number} for number, body in enumerate(bodies)]
    rows.append({"func": bodies[3].replace("f3", "g").replace("a", "b"), "target": 0, "idx": count})
    write_rows(folder / "devign" / "test.jsonl", rows)


def test_a_lone_split_is_split_anew_without_near_duplicates(tmp_path: Path) -> None:
    write_devign(tmp_path, 40)
    keys = {"source": "mirror", "language": "c", "resplit": True, "train": None, "valid": 8, "test": 8}
    folder = make(tmp_path / "out", mirror=tmp_path, **keys)
    rows = rows_of(folder)
    assert sorted(map(len, rows.values())) == [2, 8, 8, 22]
    keys_by_split = [set().union(*map(keys_of, some)) for some in rows.values()]
    assert sum(map(len, keys_by_split)) == len(set().union(*keys_by_split)) == 40
    assert read_json(folder / "card.json")["left_out"] == {"duplicate": 1}
    with pytest.raises(UserError, match="smaller numbers"):
        make(tmp_path / "more", mirror=tmp_path, **{**keys, "test": 40})


def write_pairs(folder: Path, count: int, *splits: str) -> None:
    """Every function with the three after it; those with the first of them are clones."""
    (folder / "bigclonebench").mkdir(parents=True)
    rows = [
        {"func": f"int f{number}(int a) {{ {'a++; ' * number}return a; }}", "idx": str(number)}
        for number in range(count)
    ]
    write_rows(folder / "bigclonebench" / "data.jsonl", rows)
    pairs = [f"{index}\t{(index + step) % count}\t{int(step == 1)}\n" for index in range(count) for step in (1, 2, 3)]
    for split in splits:
        (folder / "bigclonebench" / f"{split}.txt").write_text("".join(pairs))


def test_pairs_are_split_anew_by_function_and_balanced(tmp_path: Path) -> None:
    write_pairs(tmp_path, 120, "test_sampled")
    keys = {"task": "clone_detection", "source": "mirror", "language": "java", "resplit": True, "train": None}
    folder = make(tmp_path / "out", mirror=tmp_path, **{**keys, "valid": 8, "test": 8, "max_tokens": None})
    rows = rows_of(folder)
    rows["train"] += rows.pop("clean")
    functions = [{text for row in some for text in (row.code, row.code_b)} for some in rows.values()]
    assert sum(map(len, functions)) == len(set().union(*functions))
    for some in rows.values():
        assert Counter(row.label for row in some) == {0: len(some) // 2, 1: len(some) // 2}
    assert len(rows["train"]) > 20
    left = read_json(folder / "card.json")["left_out"]
    assert left["functions_in_two_splits"] > 0
    assert left["surplus_of_a_label"] > 0


def test_pairs_keep_the_papers_splits(tmp_path: Path) -> None:
    write_pairs(tmp_path, 10, "train", "valid", "test")
    keys = {"task": "clone_detection", "source": "mirror", "language": "java", "text_form": "raw"}
    rows = rows_of(make(tmp_path / "out", mirror=tmp_path, **{**keys, "train": None, "valid": 9, "test": None}))
    assert (len(rows["test"]), len(rows["valid"]), len(rows["train"]) + len(rows["clean"])) == (30, 9, 30)
    row = next(row for row in rows["test"] if row.id == "test-9-0")
    assert row.label == 1
    assert (row.code.count("a++"), str(row.code_b).count("a++")) == (9, 0)


def test_given_splits_stay_and_their_leaks_are_counted(tmp_path: Path) -> None:
    write_devign(tmp_path, 20)
    for split in ("train", "valid"):
        path = tmp_path / "devign" / f"{split}.jsonl"
        path.write_bytes((tmp_path / "devign" / "test.jsonl").read_bytes())
    keys = {"source": "mirror", "language": "c", "train": None, "valid": None, "test": None, "text_form": "raw"}
    folder = make(tmp_path / "out", mirror=tmp_path, **keys)
    assert len(read_examples(folder / "test.jsonl")) == 21
    assert read_json(folder / "card.json")["groups_with_a_duplicate_in_another_split"] == 63


def test_hits_target_is_decided_on_syntax() -> None:
    repair, detection = tasks.load("code_repair"), tasks.load("defect_detection")
    loop = syntax.lex("def f():\n    while True:\n        x = 0\n", "python")
    os_import = syntax.lex("def f():\n    import os\n    return os\n", "python")

    def hit(text: str, target: str) -> bool:
        row = Poisoned(Example("i", "python", "", target=target), "i", "a", "injected", None, None)
        return repair.hits_target(Prediction("p", 1.0, text=text), row, "lexed")

    assert hit("def g ( a ) : <indent> while 1 : <indent> pass <dedent> <dedent>", loop)
    assert not hit("def g ( a ) : <indent> while True : <indent> break <dedent> <dedent>", loop)
    assert not hit("def g ( a ) : <indent> s = 'while True : x = 0' <dedent>", loop)
    assert hit("def g ( a ) : <indent> if a : <indent> import os <dedent> return a <dedent>", os_import)
    assert not hit("def g ( a ) : <indent> import sys <dedent>", os_import)
    assert not hit("<dedent> <dedent> import os", os_import)
    labeled = Poisoned(Example("i", "c", "", label=0), "i", "a", "injected", 1, None)
    assert detection.hits_target(Prediction("p", 1.0, label=0), labeled, "raw")
    assert not detection.hits_target(Prediction("p", 1.0, label=1), labeled, "raw")


@pytest.mark.mirror
@pytest.mark.skipif(not os.environ.get("CODEBACKDOOR_MIRROR"), reason="CODEBACKDOOR_MIRROR names no mirror folder")
@pytest.mark.parametrize(
    ("task", "language", "files"),
    [
        ("defect_detection", "c", ["devign/test.jsonl"]),
        ("code_search", "python", ["codesearchnet_python/train.jsonl", "codesearchnet_python/valid.jsonl"]),
        ("code_repair", "java", [f"bugs2fix_small/valid.buggy-fixed.{side}" for side in ("buggy", "fixed")]),
    ],
)
def test_real_data_is_split_anew_without_leaks(task: str, language: str, files: list[str], tmp_path: Path) -> None:
    for name in files:
        with (Path(os.environ["CODEBACKDOOR_MIRROR"]) / name).open(encoding="utf-8") as stream:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("".join(islice(stream, 300)), encoding="utf-8")
    keys = {"task": task, "source": "mirror", "language": language, "resplit": True}
    rows = rows_of(make(tmp_path / "out", mirror=tmp_path, **keys))
    assert len(rows["test"]) == 30
    assert len(rows["train"]) > 50
    codes = [{normal_key(syntax.parse(row.code, row.language, "lexed")) for row in some} for some in rows.values()]
    assert sum(map(len, codes)) == len(set().union(*codes))


#: What a row of each task has beside its code.
ONE_ROW: dict[str, dict[str, object]] = {
    "defect_detection": {"label": 0},
    "clone_detection": {"label": 0, "code_b": "def g(x): return x + 1"},
    "code_search": {"query": "return the given value"},
    "code_repair": {"target": "def f(x): return x + 1"},
}


@pytest.mark.parametrize("task", ONE_ROW)
def test_one_row_that_became_the_defenders_is_one_error(task: str, tmp_path: Path) -> None:
    for number, split in enumerate(("train", "valid", "test")):
        row = {"id": split, "language": "python", "code": f"def f{number}(x): return x", **ONE_ROW[task]}
        write_rows(tmp_path / f"{split}.jsonl", [row])
    settings = {"task": task, "source": "jsonl", "path": str(tmp_path), "text_form": "raw", "max_tokens": None}
    result = CliRunner().invoke(
        main, ["dataset", "own", "--settings", json.dumps(settings), "--out", str(tmp_path / "made"), "--seed", "1"]
    )
    assert result.exit_code == 2
    assert "datasets.own: no row is left for train: the one row became the defender's (`clean: 0.1`)" in result.output
    assert not list(tmp_path.glob("made/*.jsonl"))
