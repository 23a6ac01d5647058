"""Folders from anyone: what they ask for is refused in one line, before memory is taken or a pipe is opened."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import base_folder, classifier, generator, understanding

from codebackdoor.config.models import CodeBert, CodeT5
from codebackdoor.errors import UserError
from codebackdoor.types import Example
from codebackdoor.victims import checkpoints, headers
from codebackdoor.victims.checksums import verify_sums
from codebackdoor.victims.external import check_lengths, load_checkpoint
from codebackdoor.victims.inference import class_logits
from codebackdoor.victims.initialization import new_victim
from codebackdoor.victims.victim import load_victim, save_victim

CARD = {"task": "defect_detection", "backdoored": False}
BERT = CodeBert(architecture="codebert", base="./folder", max_length=32)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A foreign classifier of the RoBERTa class."""
    folder = tmp_path_factory.mktemp("plain")
    victim = classifier()
    victim.model.save_pretrained(folder)
    victim.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(plain: Path, tmp_path: Path) -> Path:
    return shutil.copytree(plain, tmp_path / "model")


def change(path: Path, **keys: Any) -> None:
    """Change keys of a JSON file; None takes one away."""
    content = json.loads(path.read_text()) | keys
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def config(**keys: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / "config.json", **keys)


def tokenizer(**keys: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / "tokenizer.json", **keys)


def weights(**changes: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    """Change tensors; names have dots, which stand as two underscores."""

    def apply(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        for name, function in changes.items():
            key = name.replace("__", ".")
            tensors[key] = function(tensors[key].clone())
        save_file(tensors, path, metadata={"format": "pt"})

    return apply


def index(content: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-1.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))

    return apply


def pipe(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).parent.mkdir(exist_ok=True)
        os.mkfifo(folder / name)

    return apply


def linked(name: str, target: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return apply


def directory(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return apply


def rows(value: float, row: int = 290) -> Callable[[torch.Tensor], torch.Tensor]:
    def apply(matrix: torch.Tensor) -> torch.Tensor:
        matrix[row] *= value
        return matrix

    return apply


REPLACE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
TEXT, START = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<s>", "type_id": 0}}
SPECIAL = {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}


def template(*single: object, **special: object) -> dict[str, object]:
    return {"type": "TemplateProcessing", "single": single, "pair": [TEXT], "special_tokens": SPECIAL | special}


def charsmap(entry: bytes) -> str:
    tree = b"\0\0\0\0"
    return base64.b64encode(len(tree).to_bytes(4, "little") + tree + entry + b"\0").decode()


WORDS = "roberta__embeddings__word_embeddings__weight"
HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    # sizes that nothing is stored for
    "labels": (config(num_labels=3_000_000, id2label=None), "3000000 labels (num_labels)"),
    "more labels": (config(num_labels=10**9, id2label=None), "1000000000 labels (num_labels)"),
    "labels below zero": (config(num_labels=-1, id2label=None), "-1 labels (num_labels)"),
    "one label": (config(num_labels=1, id2label=None), "of another shape: classifier.out_proj"),
    "no label": (config(num_labels=0, id2label=None), "of another shape: classifier.out_proj"),
    "labels by name": (config(id2label={str(n): "x" for n in range(5)}), "config.json says 5 x 32"),
    "layers": (config(num_hidden_layers=10**6), "num_hidden_layers: 1000000, and there are"),
    "vocabulary": (config(vocab_size=6_000_000), "(294 x 32, config.json says 6000000 x 32)"),
    "positions": (config(max_position_embeddings=10**9), "config.json says 1000000000 x 32"),
    "width": (config(intermediate_size=10**9), "config.json says 1000000000 x 32"),
    "hidden": (config(hidden_size=10**6), "of another shape: roberta.embeddings.word_embeddings.weight"),
    "no heads": (config(num_attention_heads=0), "num_attention_heads: 0; it must be at least 1"),
    "heads below zero": (config(num_attention_heads=-2), "num_attention_heads: -2; it must be at least 1"),
    "size as text": (config(hidden_size="wide"), "cannot load the model"),
    "activation": (config(hidden_act="evil"), "cannot load the model"),
    "padding": (config(pad_token_id=-5), "pad_token_id: -5, of 294 pieces"),
    "padding beyond": (config(pad_token_id=10**6), "pad_token_id: 1000000, of 294 pieces"),
    "no place": (config(pad_token_id=31), "no place for a text"),
    "configuration": (lambda folder: (folder / "config.json").write_text("[1]"), "expected a JSON object"),
    "type": (config(model_type=["roberta"]), "supported: Roberta"),
    "escapes": (
        config(architectures=["\x1b]0;pwned\x07\x1b[2J\nclean\n  margin -0.10"]),
        r"a roberta checkpoint of '\x1b]0;pwned\x07\x1b[2J\nclean\n  margin -0.10'; supported",
    ),
    "adapter": (lambda folder: (folder / "adapter_config.json").write_text("{}"), "an adapter"),
    # weights
    "integers": (weights(**{WORDS: lambda tensor: tensor.long()}), "stored as I64"),
    "bytes": (weights(**{WORDS: lambda tensor: tensor.to(torch.int8)}), "stored as I8"),
    "truth values": (weights(classifier__dense__bias=lambda tensor: tensor > 0), "stored as BOOL"),
    "no number": (weights(**{WORDS: rows(torch.nan)}), f"NaN or infinite values: {WORDS.replace('__', '.')}"),
    "infinite": (
        weights(classifier__out_proj__bias=lambda tensor: tensor + torch.inf),
        "classifier.out_proj.bias",
    ),
    "large rows": (weights(**{WORDS: rows(1e6)}), "1 embeddings of sub-tokens are more than 1000 times"),
    "overflow": (
        weights(roberta__embeddings__LayerNorm__weight=lambda tensor: tensor * 3e38),
        "the model returns NaN or infinite values",
    ),
    "another name": (
        lambda folder: (folder / "model.safetensors").rename(folder / "weights.safetensors"),
        "model.safetensors is missing",
    ),
    "index of a list": (index([1]), "expected a JSON object"),
    "index of lists": (index({"weight_map": [1]}), "not an index of weights"),
    "index of numbers": (index({"weight_map": {"a": 1}}), "not an index of weights"),
    "index elsewhere": (index({"weight_map": {"a": "../other/model.safetensors"}}), "is not a file in this folder"),
    "index of nothing": (index({"weight_map": {"a": "model-2.safetensors"}}), "model-2.safetensors: this part"),
    # what is no file
    **{
        f"pipe {name}": (pipe(name), f"{name}: not a regular file")
        for name in (
            *("a.safetensors", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
            *("special_tokens_map.json", "generation_config.json", "chat_template.jinja", "SHA256SUMS"),
            "additional_chat_templates/x.jinja",
        )
    },
    "device": (linked("model.safetensors", "/dev/urandom"), "model.safetensors: not a regular file"),
    "endless tokenizer": (linked("tokenizer.json", "/dev/zero"), "tokenizer.json: not a regular file"),
    "dangling": (linked("model.safetensors", "nowhere"), "model.safetensors: not a regular file"),
    "circle": (linked("tokenizer.json", "tokenizer.json"), "tokenizer.json: not a regular file"),
    "folder as weights": (directory("model.safetensors"), "model.safetensors: not a regular file"),
    "folder as tokenizer": (directory("tokenizer.json"), "tokenizer.json: not a regular file"),
    # tokenizers
    "growth": (
        tokenizer(normalizer={"type": "Replace", "pattern": {"String": "a"}, "content": "b" * 10**6}),
        "may grow more than 100 times (normalizer and pre_tokenizer)",
    ),
    "doubling": (
        tokenizer(normalizer={"type": "Sequence", "normalizers": [REPLACE] * 40}),
        "may grow more than 100 times (normalizer and pre_tokenizer)",
    ),
    "nested doubling": (
        tokenizer(
            normalizer={
                "type": "Sequence",
                "normalizers": [{"type": "Sequence", "normalizers": [REPLACE] * 4} for _ in range(4)],
            }
        ),
        "may grow more than 100 times",
    ),
    "prepended": (tokenizer(normalizer={"type": "Prepend", "prepend": "x" * 1000}), "may grow more than 100 times"),
    "bytes of bytes": (
        tokenizer(
            pre_tokenizer={
                "type": "Sequence",
                "pretokenizers": [{"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}] * 30,
            }
        ),
        "may grow more than 100 times",
    ),
    "table": (
        tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": charsmap(b"x" * 5000)}),
        "may grow more than 100 times",
    ),
    "table of no base64": (
        tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": charsmap(b"x" * 5000) + "!"}),
        "precompiled_charsmap cannot be decoded",
    ),
    "table within its tree": (
        tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "/////w=="}),
        "it ends within its search tree",
    ),
    "decoder": (
        tokenizer(decoder={"type": "Replace", "pattern": {"String": "a"}, "content": "b" * 10**6}),
        "may grow more than 100 times (decoder)",
    ),
    "steps": (
        tokenizer(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}] * 1000}),
        "more than 64 steps",
    ),
    "text twice": (tokenizer(post_processor=template(TEXT, TEXT)), "does not put each text once"),
    "no text": (tokenizer(post_processor=template(START)), "does not put each text once"),
    "500 special tokens": (tokenizer(post_processor=template(*[START] * 500, TEXT)), "500 special tokens around"),
    "one of 500": (
        tokenizer(
            post_processor=template(
                {"SpecialToken": {"id": "x", "type_id": 0}},
                TEXT,
                x={"id": "x", "ids": [0] * 500, "tokens": ["<s>"] * 500},
            )
        ),
        "500 special tokens around",
    ),
    "beyond": (
        tokenizer(
            post_processor=template(
                {"SpecialToken": {"id": "x", "type_id": 0}},
                TEXT,
                x={"id": "x", "ids": [10**6], "tokens": ["x"]},
            )
        ),
        "a piece of id 1000000, the model embeds 294",
    ),
    "added beyond": (
        lambda folder: change(folder / "tokenizer_config.json", extra_special_tokens=["<a>", "<b>"]),
        "a piece of id 295, the model embeds 294",
    ),
    "broken tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{}"), "cannot load the tokenizer"),
    "list as a step": (tokenizer(normalizer=[1]), "tokenizer.json: not a tokenizer"),
    **{
        f"length {length!r}": (
            lambda folder, length=length: change(folder / "tokenizer_config.json", model_max_length=length),  # type: ignore[misc]
            "model_max_length",
        )
        for length in (-1, 0, 2, "long", [1], True)
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_folder_is_one_line(name: str, folder: Path) -> None:
    spoil, message = HOSTILE[name]
    spoil(folder)
    with pytest.raises(UserError) as error:
        load_checkpoint(folder, "classification")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["labels", "layers", "vocabulary", "integers", "no number", "pipe a.safetensors", "beyond"]
)
def test_a_hostile_base_is_one_line(name: str, tmp_path: Path) -> None:
    folder = base_folder(tmp_path / "base", "encoder")
    spoil, message = HOSTILE[name]
    spoil(folder)
    with pytest.raises(UserError) as error:
        new_victim(BERT, folder, "classification", "raw", 2, 1)
    assert message in str(error.value)


def test_a_base_of_another_build_is_one_line(tmp_path: Path) -> None:
    folder = base_folder(tmp_path / "base", "encoder")
    change(folder / "config.json", hidden_size="wide")
    with pytest.raises(UserError, match="cannot load the model"):
        new_victim(BERT, folder, "classification", "raw", 2, 1)


SECTION = {"head": "classification", "text_form": "lexed", "max_length": 32, "max_target_length": 12}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"max_length": -5}, "codebackdoor.max_length"),
        ({"max_length": 7.9}, "codebackdoor.max_length"),
        ({"max_length": "32"}, "codebackdoor.max_length"),
        ({"max_length": True}, "codebackdoor.max_length"),
        ({"max_length": 10**9}, "codebackdoor.max_length"),
        ({"max_target_length": 10**9}, "codebackdoor.max_target_length"),
        ({"max_query_length": 0}, "codebackdoor.max_query_length"),
        ({"pooling": "evil"}, "codebackdoor.pooling"),
        ({"similarity": "evil"}, "codebackdoor.similarity"),
        ({"scale": -1.0}, "codebackdoor.scale"),
        ({"text_form": ["raw"]}, "codebackdoor.text_form"),
        ({"head": "search"}, "codebackdoor.head"),
        ({"prefix": [1]}, "codebackdoor.prefix.0"),
        ({"prefix": "<s>"}, "codebackdoor.prefix"),
        ({"prefix": ["<evil>"]}, "the tokenizer has no piece '<evil>'"),
        ({"prefix": ["<s>"] * 40}, "42 special tokens leave no room"),
        ({"head": "\x1b[2J"}, r"'\x1b[2J'"),
    ],
)
def test_what_a_folder_says_of_itself_is_checked(keys: dict[str, object], message: str, folder: Path) -> None:
    change(folder / "config.json", codebackdoor=SECTION | keys)
    with pytest.raises(UserError) as error:
        load_victim(folder)
    assert message in str(error.value)
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_floating_point_numbers_of_any_size_are_read(dtype: torch.dtype, plain: Path, folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = {name: value.to(dtype) for name, value in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    model = load_checkpoint(folder, "classification").model
    assert model.dtype == torch.float32
    dense = tensors["classifier.dense.weight"].float()
    assert torch.equal(model.classifier.dense.weight, dense)


def test_what_a_class_never_reads_changes_no_answer(plain: Path, folder: Path) -> None:
    path = folder / "model.safetensors"
    unread = {
        "roberta.pooler.dense.weight": torch.randn(32, 32),
        "roberta.pooler.dense.bias": torch.zeros(32),
        "roberta.embeddings.position_ids": torch.arange(34)[None],
        "lm_head.bias": torch.zeros(294),
    }
    save_file(load_file(path) | unread, path, metadata={"format": "pt"})
    victim = load_checkpoint(folder, "classification")
    ids = [text.ids for text in victim.encode(["x = 1", "def f ( a ) :"])]
    assert torch.equal(class_logits(victim, ids), class_logits(load_checkpoint(plain, "classification"), ids))
    save_file(load_file(path) | {"roberta.evil.weight": torch.zeros(1)}, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"unexpected: roberta\.evil\.weight"):
        load_checkpoint(folder, "classification")


@pytest.mark.parametrize("family", ["t5", "gpt"])
def test_a_language_models_head_beside_a_classifier_is_not_read(family: str, tmp_path: Path) -> None:
    victim = understanding(family, "classification")
    victim.model.save_pretrained(tmp_path)
    victim.tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file(load_file(path) | {"lm_head.weight": torch.zeros(294, 32)}, path, metadata={"format": "pt"})
    assert load_checkpoint(tmp_path, "classification").head == "classification"


def test_a_sigmoid_is_the_models_fault_and_no_rows(tmp_path: Path) -> None:
    victim = classifier()
    victim.model.config.num_labels = 1
    type(victim.model)(victim.model.config).save_pretrained(tmp_path)
    victim.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"the model has one output \(num_labels 1\)"):
        load_checkpoint(tmp_path, "classification")


@pytest.mark.parametrize("content", [{"model_max_length": 32}, None], ids=["the length alone", "no file"])
def test_special_tokens_are_those_of_the_class_where_no_file_names_them(
    content: object, plain: Path, folder: Path
) -> None:
    (folder / "tokenizer_config.json").unlink()
    if content is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(content))
    victim, reference = load_checkpoint(folder, "classification"), load_checkpoint(plain, "classification")
    assert victim.pad_id == reference.pad_id == 1
    assert (victim.tokenizer.mask_token, victim.tokenizer.unk_token) == ("<mask>", "<unk>")
    assert victim.max_length == 32
    assert victim.encode(["def f ( a ) :"]) == reference.encode(["def f ( a ) :"])


def test_special_tokens_of_a_base_are_those_of_its_class(tmp_path: Path) -> None:
    for family, recipe, head in (
        ("encoder", BERT, "classification"),
        ("seq2seq", CodeT5(architecture="codet5", base="./folder", max_length=32, max_target_length=12), "generation"),
    ):
        folder = base_folder(tmp_path / family, family)
        (folder / "tokenizer_config.json").unlink()
        victim = new_victim(recipe, folder, head, "raw", 2 if head == "classification" else None, 1)  # type: ignore[arg-type]
        assert victim.pad_id == 1


def test_a_token_that_the_vocabulary_lacks_is_not_made_up(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("<pad>", "<nothing>"))
    with pytest.raises(UserError, match="no padding token; set pad_token"):
        load_checkpoint(folder, "classification")


@pytest.mark.parametrize(
    "arguments",
    [("./*",), ("*",), ("-b", "*"), ("--tag", "*"), ("$PWD/*",), (".//./*",)],
    ids=["dot", "plain", "binary", "tag", "absolute", "slashes"],
)
def test_sums_are_read_as_sha256sum_reads_them(arguments: tuple[str, ...], folder: Path) -> None:
    subprocess.run(
        ["bash", "-c", f"sha256sum {' '.join(arguments)} > ../sums && mv ../sums SHA256SUMS"], cwd=folder, check=True
    )
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    verify_sums(folder)
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    (folder / "SHA256SUMS").write_text("".join(f"{line}\r\n" for line in ("# made by hand", *lines, "")))
    verify_sums(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config\.json: truncated or changed"):
        verify_sums(folder)


def test_sums_that_list_themselves_or_other_folders(folder: Path) -> None:
    subprocess.run(["bash", "-c", "touch SHA256SUMS; sha256sum ./* > SHA256SUMS"], cwd=folder, check=True)
    assert "SHA256SUMS" in (folder / "SHA256SUMS").read_text()
    verify_sums(folder)
    for name in ("../other", "/etc/passwd", "a/../../other"):
        (folder / "SHA256SUMS").write_text(f"{'0' * 64}  {name}\n")
        with pytest.raises(UserError, match="is outside of"):
            verify_sums(folder)
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  \n")
    with pytest.raises(UserError, match="not a line of sha256sum"):
        verify_sums(folder)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_saved_victim_may_be_read_by_whom_the_umask_allows(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        save_victim(classifier(), tmp_path / "victim", CARD)
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "victim").iterdir()} == {mode}


def test_weights_that_may_not_be_read_are_said_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints.os, "access", lambda path, mode: path.suffix != ".safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors: not readable; ask its owner"):
        load_checkpoint(folder, "classification")


def test_a_model_larger_than_the_machine_is_not_begun(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "_memory", lambda: 100_000)
    with pytest.raises(UserError, match=r"takes 0\.0 GiB in float32, this machine has 0\.0"):
        load_checkpoint(folder, "classification")


def test_neither_code_nor_a_kernel_of_the_hub_is_asked_for(folder: Path) -> None:
    change(
        folder / "config.json",
        attn_implementation="owner/kernel",
        _attn_implementation="owner/kernel",
        auto_map={"AutoConfig": "owner/repository--evil.Config"},
    )
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["owner/repository--evil.T", None]})
    victim = load_checkpoint(folder, "classification")
    assert victim.model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    "normalizer", [None, {"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]
)
def test_steps_of_ordinary_tokenizers_are_taken(normalizer: object, folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": normalizer}))
    assert load_checkpoint(folder, "classification").max_length == 32


def test_a_text_that_the_tokenizer_breaks_at_is_one_line(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    split = {"type": "Split", "pattern": {"Regex": r"^(.+)+\1\1\1\1x$"}, "behavior": "Isolated", "invert": False}
    content = json.loads((folder / "tokenizer.json").read_text())
    both = {"type": "Sequence", "pretokenizers": [split, content["pre_tokenizer"]]}
    change(folder / "tokenizer.json", pre_tokenizer=both)
    victim = load_checkpoint(folder, "classification")
    with pytest.raises(UserError, match=r"this model's tokenizer cannot read a text: .*retry-limit-in-match"):
        victim.encode(["def compute_1(x, limit): total = x + 1; return total"])
    capfd.readouterr()


def samples(words: int) -> list[Example]:
    return [Example(str(number), "python", "a " * words, label=number % 2) for number in range(4)]


def test_a_folder_that_reads_next_to_nothing_of_the_samples_is_refused(folder: Path) -> None:
    change(folder / "config.json", codebackdoor=SECTION | {"max_length": 8})
    victim = load_checkpoint(folder, "classification")
    with pytest.raises(UserError, match=r"reads 8 sub-tokens of each sample, and half of the samples have 43 or more"):
        check_lengths(folder, victim, samples(40), is_explicit=False)
    check_lengths(folder, victim, samples(10), is_explicit=False)
    check_lengths(folder, victim, samples(40), is_explicit=True)
    longer = load_checkpoint(folder, "classification", max_length=32)
    check_lengths(folder, longer, samples(40), is_explicit=True)
    assert len(longer.encode(["a " * 40])[0].ids) == 32


def test_the_tokenizers_own_length_is_no_more_believed(folder: Path) -> None:
    change(folder / "tokenizer_config.json", model_max_length=8)
    victim = load_checkpoint(folder, "classification")
    assert victim.max_length == 8
    with pytest.raises(UserError, match="too little for a verdict; name --max-length"):
        check_lengths(folder, victim, samples(40), is_explicit=False)
    assert load_checkpoint(folder, "classification", max_length=32).max_length == 32
    with pytest.raises(UserError, match="--max-length 33: this model reads at most 32"):
        load_checkpoint(folder, "classification", max_length=33)


def test_a_generator_that_cannot_begin_is_refused(tmp_path: Path) -> None:
    victim = generator()
    victim.model.save_pretrained(tmp_path)
    victim.tokenizer.save_pretrained(tmp_path)
    change(tmp_path / "config.json", decoder_start_token_id=10**6)
    recipe = CodeT5(architecture="codet5", base="./folder", max_length=32, max_target_length=12)
    with pytest.raises(UserError, match="the model cannot be run: IndexError"):
        new_victim(recipe, tmp_path, "generation", "raw", None, 1)
