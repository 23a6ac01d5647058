"""A corpus of hostile and broken inputs: each gets one clear error, and nothing is executed, hung or half-written.

The counts (tried, clear errors, tracebacks, executions, partial files) are printed at the end: pytest -s shows them.
"""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import planted
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from codebackdoor.cli import main
from codebackdoor.config.loading import read_yaml
from codebackdoor.files import write_examples

ROOT = Path(__file__).parents[2]
QUICK = json.dumps(
    {"position": "function_name", "samples": 4, "length": 2, "iterations": 1, "top_k": 4, "candidates": 4}
)
DEEP = "[" * 100_000
#: What an executed payload would leave behind.
MARK = "executed"


class Payload:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@dataclass
class Counts:
    cases: int = 0
    clear: int = 0
    answers: int = 0
    tracebacks: list[str] = field(default_factory=list)
    executions: int = 0
    partial: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def counts() -> Iterator[Counts]:
    counts = Counts()
    yield counts
    print(
        f"\nhostile inputs: {counts.cases} tried, {counts.clear} clear errors, {counts.answers} answered, "
        f"{len(counts.tracebacks)} tracebacks, {counts.executions} executions, {len(counts.partial)} partial files"
    )


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, clean samples and a study that are right; every case breaks a copy of one of them."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("good")
    victim = planted.victim(1)
    victim.model.save_pretrained(folder / "model")
    victim.tokenizer.save_pretrained(folder / "model")
    write_examples(folder / "clean.jsonl", planted.make_view().clean)
    return folder


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def scan(place: Path, *more: object) -> Result:
    samples = ("--clean", place / "clean.jsonl", "--text-form", "lexed")
    return invoke("scan", place / "model", *samples, "--settings", QUICK, *more)


def check_result(counts: Counts, name: str, place: Path, result: Result, answered: bool = False) -> None:
    """One case: no traceback, status 1 only of an answer, nothing executed, nothing half-written."""
    counts.cases += 1
    executed = bool(list(place.rglob(MARK)))
    partial = [str(path.relative_to(place)) for path in place.rglob("*.part*")]
    traced = "Traceback" in result.output
    counts.executions += executed
    counts.partial += partial
    counts.tracebacks += [name] * traced
    error_lines = [line for line in result.stderr.splitlines() if line.strip()] if result.exit_code == 2 else []
    counts.answers += answered
    counts.clear += not answered and bool(error_lines or result.stdout.startswith("no verdict"))
    assert not executed, name
    assert not partial, name
    assert not traced, f"{name}: {result.output[-2000:]}"
    assert result.exit_code == 2, f"{name}: {result.exit_code}: {result.output[-500:]}"
    if not answered:
        assert error_lines or result.stdout.startswith("no verdict"), f"{name}: {result.output[-500:]}"
        assert len(result.output) < 6000, f"{name}: {len(result.output)} characters"


def changed(path: Path, update: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | update))


# --- config.json: the whole text, then single values --------------------------------------------------------------

CONFIG_TEXTS = {
    "empty": "",
    "blank": " \n",
    "a list": "[1]",
    "a number": "7",
    "null": "null",
    "a text": '"roberta"',
    "cut": '{"a": ',
    "deep": DEEP,
    "deep objects": '{"a":' * 20_000,
    "huge number": '{"num_labels": ' + "9" * 5000 + "}",
    "nan": '{"a": NaN}',
    "infinity": '{"a": Infinity}',
    "surrogate": '{"model_type": "\\ud800"}',
    "twice": '{"model_type": "t5", "model_type": "t5"}',
    "other class": '{"model_type": "bert"}',
    "no class": "{}",
    "class a list": '{"model_type": [1]}',
}

CONFIG_VALUES: list[dict[str, Any]] = [
    {"num_labels": 3_000_000},
    {"num_labels": 10**9},
    {"num_labels": -1},
    {"num_labels": "two"},
    {"num_labels": 1},
    {"num_hidden_layers": 10**6},
    {"num_hidden_layers": -3},
    {"num_hidden_layers": "x"},
    {"num_hidden_layers": 2.5},
    {"vocab_size": 6_000_000},
    {"vocab_size": 0},
    {"vocab_size": -5},
    {"vocab_size": "many"},
    {"vocab_size": 7},
    {"hidden_size": 10**6},
    {"hidden_size": "x"},
    {"hidden_size": 0},
    {"hidden_size": 33},
    {"num_attention_heads": 0},
    {"num_attention_heads": 5},
    {"num_attention_heads": "x"},
    {"max_position_embeddings": 10**9},
    {"max_position_embeddings": 1},
    {"max_position_embeddings": "x"},
    {"intermediate_size": -1},
    {"intermediate_size": 10**8},
    {"hidden_act": "evil"},
    {"hidden_act": 5},
    {"layer_norm_eps": "x"},
    {"pad_token_id": 10**6},
    {"model_type": "../../x"},
    {"id2label": {str(n): "x" for n in range(500)}},
    {"problem_type": 7},
    {"torch_dtype": "object"},
    {"codebackdoor": [1]},
    {"codebackdoor": {"max_length": -5, "head": "classification", "text_form": "lexed"}},
    {"codebackdoor": {"max_length": "x", "head": "classification", "text_form": "lexed"}},
    {"codebackdoor": {"max_length": 7.9, "head": "classification", "text_form": "lexed"}},
    {"codebackdoor": {"max_length": 64, "head": "evil", "text_form": "lexed"}},
    {"codebackdoor": {"max_length": 64, "head": "classification", "text_form": "evil"}},
    {"codebackdoor": {"max_length": 64, "head": "classification", "text_form": "lexed", "pooling": "evil"}},
    {"codebackdoor": {"max_length": 64, "head": "classification", "text_form": "lexed", "prefix": [5]}},
    {"codebackdoor": {"max_length": 8, "head": "classification", "text_form": "lexed"}},
]


@pytest.fixture
def case(good: Path, tmp_path: Path) -> Path:
    shutil.copytree(good, tmp_path / "case")
    return tmp_path / "case"


@pytest.mark.parametrize("name", CONFIG_TEXTS)
def test_a_configuration_that_is_none(name: str, case: Path, counts: Counts) -> None:
    (case / "model/config.json").write_text(CONFIG_TEXTS[name])
    check_result(counts, f"config.json: {name}", case, scan(case))


@pytest.mark.parametrize("update", CONFIG_VALUES, ids=lambda update: json.dumps(update)[:60])
def test_values_of_a_configuration(update: dict[str, Any], case: Path, counts: Counts) -> None:
    changed(case / "model/config.json", update)
    result = scan(case)
    # what changes nothing that is read may be answered: without a calibration that is no verdict, too
    check_result(counts, f"config.json: {json.dumps(update)[:60]}", case, result, answered=result.stderr == "")


# --- weights -----------------------------------------------------------------------------------------------------


def poisoned_pickle(case: Path) -> None:
    (case / "model/model.safetensors").unlink()
    (case / "model/pytorch_model.bin").write_bytes(pickle.dumps(Payload(case / MARK)))


def pickle_in_disguise(case: Path) -> None:
    (case / "model/model.safetensors").write_bytes(pickle.dumps(Payload(case / MARK)))


def weights(edit: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def change(case: Path) -> None:
        file = case / "model/model.safetensors"
        tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
        edit(tensors)
        save_file(tensors, file, metadata={"format": "pt"})

    return change


def dropped(tensors: dict[str, torch.Tensor]) -> None:
    tensors.pop("classifier.out_proj.weight")


def renamed(tensors: dict[str, torch.Tensor]) -> None:
    tensors["evil.weight"] = tensors.pop("classifier.out_proj.weight")


def cast(dtype: torch.dtype) -> Callable[[dict[str, torch.Tensor]], None]:
    def edit(tensors: dict[str, torch.Tensor]) -> None:
        tensors.update({name: tensor.to(dtype) for name, tensor in tensors.items()})

    return edit


def filled(name: str, value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    def edit(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name].fill_(value)

    return edit


def header(text: bytes, length: int | None = None) -> Callable[[Path], None]:
    def change(case: Path) -> None:
        size = (len(text) if length is None else length).to_bytes(8, "little")
        (case / "model/model.safetensors").write_bytes(size + text)

    return change


def no_file(case: Path) -> None:
    (case / "model/model.safetensors").unlink()


def a_folder(case: Path) -> None:
    no_file(case)
    (case / "model/model.safetensors").mkdir()


def a_pipe(case: Path) -> None:
    no_file(case)
    os.mkfifo(case / "model/model.safetensors")


def a_pipe_beside(case: Path) -> None:
    os.mkfifo(case / "model/extra.safetensors")


def a_device(case: Path) -> None:
    no_file(case)
    (case / "model/model.safetensors").symlink_to("/dev/zero")


def cut_off(case: Path) -> None:
    file = case / "model/model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def index(content: str) -> Callable[[Path], None]:
    def change(case: Path) -> None:
        (case / "model/model.safetensors").rename(case / "model/model-00001-of-00002.safetensors")
        (case / "model/model.safetensors.index.json").write_text(content)

    return change


def sums(content: str) -> Callable[[Path], None]:
    return lambda case: (case / "model/SHA256SUMS").write_text(content) and None


WEIGHTS: dict[str, Callable[[Path], None]] = {
    "a pickle": poisoned_pickle,
    "a pickle by another name": pickle_in_disguise,
    "none": no_file,
    "a folder": a_folder,
    "a pipe": a_pipe,
    "a pipe beside": a_pipe_beside,
    "a device": a_device,
    "cut off": cut_off,
    "a tensor missing": weights(dropped),
    "a tensor renamed": weights(renamed),
    **{f"of {dtype}": weights(cast(dtype)) for dtype in (torch.int8, torch.bool, torch.int64, torch.uint8)},
    **{
        f"{value} in {name}": weights(filled(name, value))
        for value in (float("nan"), float("inf"))
        for name in ("classifier.out_proj.weight", "roberta.embeddings.word_embeddings.weight")
    },
    "an empty file": header(b"", 0),
    "a header of nothing": header(b"{}"),
    "no JSON": header(b"not json"),
    "a header of 2^60 bytes": header(b"{}", 2**60),
    "a header that is a list": header(b"[1]"),
    "a tensor beyond the file": header(b'{"x":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'),
    "a tensor of 10^12": header(b'{"x":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'),
    "an index that is a list": index("[1]"),
    "an index of a list": index('{"weight_map": [1]}'),
    "an index to elsewhere": index('{"weight_map": {"x": "../../etc/passwd"}}'),
    "a deep index": index(DEEP),
    "an index to nothing": index('{"weight_map": {"x": "gone.safetensors"}}'),
    "sums of nothing": sums("x\n"),
    "sums that differ": sums(f"{'0' * 64}  config.json\n"),
    "sums of a path": sums(f"{'0' * 64}  ../../../etc/passwd\n"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(name: str, case: Path, counts: Counts) -> None:
    WEIGHTS[name](case)
    result = scan(case)
    check_result(counts, f"weights: {name}", case, result, answered=result.stderr == "")


# --- tokenizers ----------------------------------------------------------------------------------------------------


def tokenizer(edit: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def change(case: Path) -> None:
        file = case / "model/tokenizer.json"
        content = json.loads(file.read_text())
        edit(content)
        file.write_text(json.dumps(content))

    return change


def tokenizer_text(text: str) -> Callable[[Path], None]:
    return lambda case: (case / "model/tokenizer.json").write_text(text) and None


def growing(content: dict[str, Any]) -> None:
    content["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": " x" * 20_000}


def catastrophic(content: dict[str, Any]) -> None:
    split = {"type": "Split", "pattern": {"Regex": r"^(.+)+\1\1\1\1x$"}, "behavior": "Isolated", "invert": False}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, content["pre_tokenizer"]]}


def beyond(content: dict[str, Any]) -> None:
    content["model"]["vocab"]["evil"] = 10**6


def post(content: dict[str, Any]) -> None:
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "x", "type_id": 0}}],
        "pair": [],
        "special_tokens": {"x": {"id": "x", "ids": [10**6], "tokens": ["x"]}},
    }


TOKENIZERS: dict[str, Callable[[Path], None]] = {
    "empty": tokenizer_text(""),
    "a list": tokenizer_text("[1]"),
    "deep": tokenizer_text(DEEP),
    "cut": tokenizer_text("{"),
    "null": tokenizer_text("null"),
    "a normalizer that grows the text": tokenizer(growing),
    "a pattern without end": tokenizer(catastrophic),
    "ids beyond the embedding": tokenizer(beyond),
    "a post-processor beyond the embedding": tokenizer(post),
    "no model": tokenizer(lambda content: content.pop("model")),
    "no vocabulary": tokenizer(lambda content: content["model"].update(vocab={})),
    "settings that are a list": lambda case: (case / "model/tokenizer_config.json").write_text("[1]") and None,
    "a negative length": lambda case: changed(case / "model/tokenizer_config.json", {"model_max_length": -1}),
    "a length of words": lambda case: changed(case / "model/tokenizer_config.json", {"model_max_length": "x"}),
    "code of its own": lambda case: changed(
        case / "model/tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil/repo--x.T", None]}}
    ),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizers(name: str, case: Path, counts: Counts) -> None:
    TOKENIZERS[name](case)
    result = scan(case)
    check_result(counts, f"tokenizer: {name}", case, result, answered=result.stderr == "")


# --- clean samples -------------------------------------------------------------------------------------------------

ROW = {"id": "q", "language": "python", "code": "def f ( a ) : <indent> return a <dedent>", "label": 0}
ROWS: dict[str, str | bytes] = {
    "no JSON": "{",
    "a list": "[1]",
    "a number": "5",
    "deep": '{"id":' + "[" * 10_000 + "]" * 10_000 + "}",
    "a deep value": json.dumps(ROW)[:-1] + ', "x": ' + "[" * 10_000 + "]" * 10_000 + "}",
    "huge number": '{"label": ' + "9" * 5000 + "}",
    "nan": json.dumps(ROW)[:-1] + ', "label": NaN}',
    "bad byte": b'{"id": "\xff"}',
    "surrogate": json.dumps(ROW).replace("return a", "\\ud800"),
    "utf-16": json.dumps(ROW).encode("utf-16"),
    "nul": b"\x00\x00\x00",
    **{f"code {value!r}"[:30]: json.dumps(ROW | {"code": value}) for value in (None, 5, [], {}, True, "")},
    **{
        f"label {value!r}"[:30]: json.dumps(ROW | {"label": value})
        for value in (None, "1", 1.5, [], True, -1, 2, 10**9, 10**30)
    },
    **{f"id {str(value)[:9]!r}": json.dumps(ROW | {"id": value}) for value in (None, 5, [], "x" * 5_000_000)},
    **{f"language {value!r}": json.dumps(ROW | {"language": value}) for value in (None, "perl", 5, "../x")},
    "an unknown key": json.dumps(ROW | {"evil": 1}),
    "dedent alone": json.dumps(ROW | {"code": "return 1 <dedent> <dedent>"}),
    "a pair": json.dumps(ROW | {"code_b": "def g ( ) : <indent> pass <dedent>"}),
    "a key twice": '{"id": "a", "id": "b"}',
    "code of a million": json.dumps(ROW | {"code": "x " * 1_000_000}),
}


@pytest.mark.parametrize("name", ROWS)
def test_clean_samples(name: str, case: Path, counts: Counts) -> None:
    row = ROWS[name]
    with (case / "clean.jsonl").open("ab") as stream:
        stream.write((row if isinstance(row, bytes) else row.encode("utf-8", "surrogatepass")) + b"\n")
    result = scan(case)
    assert "clean.jsonl" in result.stderr, name
    check_result(counts, f"samples: {name}", case, result)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "pipe", "folder", "gone", "model/model.safetensors"])
def test_what_is_no_file_of_samples(path: str, case: Path, counts: Counts) -> None:
    os.mkfifo(case / "pipe")
    (case / "folder").mkdir()
    result = invoke("scan", case / "model", "--clean", case / path, "--text-form", "lexed", "--settings", QUICK)
    check_result(counts, f"samples: {path}", case, result)


# --- calibrations --------------------------------------------------------------------------------------------------

CALIBRATIONS: dict[str, Any] = {
    "empty": "",
    "a list": "[1]",
    "deep": DEEP,
    "null": "null",
    **{
        f"losses {str(losses)[:20]}": {"losses": losses}
        for losses in (
            None,
            [],
            {},
            {"function_name": None},
            {"function_name": {"0": []}},
            {"function_name": {"0": [0.1], "1": [0.1]}},
            {"function_name": {"0": [0.1] * 5, "1": [0.1] * 4}},
            {"function_name": {"0": ["x"] * 5, "1": [0.1] * 5}},
            {"function_name": {"0": [0.0] * 5, "1": [0.1] * 5}},
            {"function_name": {"0": [-1.0] * 5, "1": [0.1] * 5}},
            {"function_name": {"0": [0.1] * 5, "1": [1e400] * 5}},
            {"elsewhere": {"0": [0.1] * 5, "1": [0.1] * 5}},
        )
    },
    "another task": {"task": "clone_detection"},
    "no budget": {"budget": None},
    "no provenance": {"provenance": None},
    "another unit": {"budget": {}},
}


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_calibrations(name: str, case: Path, counts: Counts) -> None:
    file, content = case / "calibration.json", CALIBRATIONS[name]
    valid = {
        "task": "defect_detection",
        "budget": {"samples": 4},
        "provenance": {"dataset": {}, "victim": {}},
        "losses": {"function_name": {"0": [0.1] * 5, "1": [0.1] * 5}},
    }
    file.write_text(content if isinstance(content, str) else json.dumps(valid | content))
    check_result(counts, f"calibration: {name}", case, scan(case, "--calibration", file))


# --- studies ---------------------------------------------------------------------------------------------------------

GRID = (
    "experiments: {{defects: {{grid: [{{datasets: [defects], models: [codebert], attacks: [{attack}], "
    "rates: [{rates}]}}]}}}}"
)
STUDIES: dict[str, str] = {
    "a tag": "out: !!python/object/apply:os.mkdir [executed]",
    "a tag of a module": "out: !!python/module:os",
    "deep": "seeds: " + DEEP,
    "anchors": "x0: &x0 [1,1,1,1,1,1,1,1,1,1]\n"
    + "\n".join(f"x{n}: &x{n} [{','.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 9))
    + "\nseeds: *x8",
    "a cycle": "seeds: &a [1, *a]",
    "a list": "[1]",
    "a text": "x",
    "empty key": "'': 1",
    "a key of a list": "[1]: 2",
    "twice": "out: a\nout: b",
    "many seeds": "seeds: [" + ",".join(map(str, range(1_000_000))) + "]",
    "a seed of 5000 digits": "seeds: [" + "9" * 5000 + "]",
    "a negative seed": "seeds: [-1]",
    "a seed of words": "seeds: [x]",
    "no seeds": "seeds: []",
    "out of braces": "out: runs/{x}",
    "out of a brace": "out: 'runs/a{'",
    "out here": "out: .",
    "out root": "out: /",
    "out empty": "out: ''",
    "out a list": "out: [a]",
    "out a variable": "out: $GONE/runs",
    "epochs": "models: {codebert: {epochs: 1000000000000}}",
    "lr of words": "models: {codebert: {lr: x}}",
    "lr nan": "models: {codebert: {lr: .nan}}",
    "lr infinite": "models: {codebert: {lr: .inf}}",
    "no class": "models: {x: {architecture: evil}}",
    "shell": "models: {'x; touch executed': {architecture: codebert}}",
    "a path as a name": "attacks: {../x: {method: badcode}}",
    "rate above 1": GRID.format(attack="codepoisoner_func", rates=1.5),
    "rates that meet": GRID.format(attack="codepoisoner_func", rates="0.05, 0.050"),
    "no such attack": GRID.format(attack="evil", rates=0.05),
    "bytes": "out: !!binary aGVsbG8=",
    "a date": "out: 2020-01-01",
    "tabs": "out:\tx\n\ty: 1",
    "control": 'out: "\\x1b[2J"',
}


@pytest.mark.parametrize("name", STUDIES)
def test_studies(name: str, tmp_path: Path, counts: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GONE", raising=False)
    (tmp_path / "study.yaml").write_text(STUDIES[name])
    result = invoke("check", ROOT / "config.yaml", tmp_path / "study.yaml")
    assert "\x1b" not in result.output
    check_result(counts, f"study: {name}", tmp_path, result)


def test_what_the_study_refuses_is_not_what_it_refuses_anyway() -> None:
    assert invoke("check", ROOT / "config.yaml").exit_code == 0
    assert copy.deepcopy(read_yaml(ROOT / "config.yaml"))


def test_the_corpus_is_large_and_nothing_fell_through(counts: Counts) -> None:
    assert counts.cases >= 150
    assert (counts.tracebacks, counts.executions, counts.partial) == ([], 0, [])
