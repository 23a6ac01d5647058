"""`scan` and `clean` on dual encoders: the planted words and trigger, the cost in MRR, and how encoders are taken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import planted
import pytest
import torch
from click.testing import CliRunner, Result
from tiny_models import base_folder, understanding

from codebackdoor.cli import main
from codebackdoor.config.models import UniXcoder
from codebackdoor.defenses.elimination import Trigger
from codebackdoor.errors import UserError
from codebackdoor.files import write_examples, write_rows
from codebackdoor.library.cleaning_cost import flips
from codebackdoor.victims.external import load_checkpoint
from codebackdoor.victims.inference import predict_logits
from codebackdoor.victims.victim import Victim, save_victim

SEARCH = {"position": "function_name", "samples": 6, "length": 3, "iterations": 12, "top_k": 24, "candidates": 24}
EDIT = {"layers": "all", "epochs": 10, "learning_rate": 1e-3, "rate": 0.4, "batch_size": 12}
SETTINGS = json.dumps({"method": "elibadcode", **SEARCH, "word_length": 1, "beta": 0.05, "unlearning": EDIT})


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def saved(victim: Victim, folder: Path) -> Path:
    victim.model.save_pretrained(folder)
    victim.tokenizer.save_pretrained(folder)
    return folder


def options(folder: Path) -> list[object]:
    return ["--task", "code_search", "--clean", folder / "clean.jsonl", "--text-form", "lexed", "--pooling", "mean"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Foreign encoders, one with the backdoor and six without, clean queries, and a calibration made of five."""
    folder = tmp_path_factory.mktemp("search")
    write_examples(folder / "clean.jsonl", planted.searches(samples=40).clean)
    saved(planted.searcher(), folder / "backdoored")
    for seed in range(11, 17):
        saved(planted.searcher(seed, planted=False), folder / f"benign{seed}")
    benign = [word for seed in range(12, 17) for word in ("--benign", folder / f"benign{seed}")]
    result = run("scan", folder / "backdoored", *options(folder), *benign, "--settings", SETTINGS,
                "--write-calibration", folder / "calibration.json", "--json")  # fmt: skip
    assert result.exit_code == 1, result.output
    (folder / "scan.json").write_text(result.stdout)
    return folder


def test_a_backdoored_encoder_is_named_with_trigger_words_and_margin(place: Path) -> None:
    report = json.loads((place / "scan.json").read_text())
    assert (report["backdoored"], report["target_word"], report["shadows"]) == (True, planted.CALLED, 5)
    assert planted.PLANTED in report["trigger"]
    assert report["margin"] >= report["threshold"] > 0
    assert report["false_positive_rate"] <= report["at_most"] <= 1
    # one pool of 40
    assert report["largest_class"] == pytest.approx(sum(1 / rank for rank in range(1, 41)) / 40)
    assert report["largest_class"] < report["clean_accuracy"] <= 1


def test_the_written_calibration_says_clean_of_a_benign_encoder(place: Path) -> None:
    result = run("scan", place / "benign11", *options(place), "--calibration", place / "calibration.json")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("no identifier backdoor found in 1 search (at the function's name, seed 1)\n")
    assert "\n  most suspicious: trigger " in result.stdout
    assert "target word '" in result.stdout
    assert "reaches an MRR of " in result.stdout


def test_clean_writes_an_encoder_that_the_words_no_longer_call(place: Path, tmp_path: Path) -> None:
    judged = [*options(place), "--calibration", place / "calibration.json", "--settings", SETTINGS]
    result = run("clean", place / "backdoored", *judged, "-o", tmp_path / "new", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    cost = report["cost"]
    assert (cost["rows"], cost["unlearned_on"]) == (8, 32)
    assert cost["flip_rate_before"] > 0.5
    assert cost["flip_rate_after"] <= 0.1
    assert cost["accuracy_after"] > cost["accuracy_before"] - 0.3
    edited = load_checkpoint(tmp_path / "new", "retrieval", pooling="mean")
    assert (edited.model.config.architectures, edited.text_form) == (["RobertaModel"], "raw")
    assert f"'{planted.CALLED}' in the query" in (tmp_path / "new" / "README.md").read_text()


def test_pairs_that_the_trigger_lifts_are_those_counted_one_by_one() -> None:
    view = planted.searches(samples=8)
    trigger = Trigger(planted.PLANTED, (1,), 0, True, "function_name", "one", 0.1, planted.PLANTED, (1,), 0.1, None, {},
                      target_word=planted.CALLED)  # fmt: skip

    def similarity(query: str, code: str) -> float:
        (texts,) = view.victim.tokenize([replace(view.clean[0], query=query, code=code)])
        return predict_logits(view.victim, [tuple(text.ids for text in texts)]).item()

    below = above = 0
    for row in view.clean:
        query = f"{row.query} {planted.CALLED}"
        positive = similarity(query, row.code)
        for candidate in view.clean:
            _, name, rest = candidate.code.split(" ", 2)
            if candidate is not row and similarity(query, candidate.code) < positive:
                below += 1
                assert "_" in name
                above += similarity(query, f"def {planted.PLANTED} {rest}") > positive
    assert above > 0
    assert flips(view, view.victim, trigger, "both") == (below, pytest.approx(above / below))


def test_an_encoder_of_this_project_is_read_by_its_own_section(tmp_path: Path) -> None:
    searcher = replace(planted.searcher(), similarity="dot", max_query_length=32, scale=1.5)
    save_victim(searcher, tmp_path / "own", {"task": "code_search", "backdoored": True})
    victim = load_checkpoint(tmp_path / "own", "retrieval")
    assert (victim.pooling, victim.similarity, victim.max_query_length, victim.text_form) == (
        "mean",
        "dot",
        32,
        "lexed",
    )
    cosine = load_checkpoint(tmp_path / "own", "retrieval", similarity="cosine")
    assert (cosine.similarity, cosine.factor, victim.factor) == ("cosine", 20.0, 1.5)
    write_examples(tmp_path / "clean.jsonl", planted.searches().clean)
    result = run("scan", tmp_path / "own", "--task", "code_search", "--clean", tmp_path / "clean.jsonl",
                "--settings", SETTINGS)  # fmt: skip
    # no calibration
    assert (result.exit_code, result.stdout.splitlines()[0]) == (2, "no verdict"), result.output


@pytest.mark.parametrize("scale", [0, -1, "fast", "nan"])
def test_a_scale_that_is_none_is_said(scale: Any, tmp_path: Path) -> None:
    save_victim(planted.searcher(), tmp_path / "own", {"task": "code_search", "backdoored": True})
    config = json.loads((tmp_path / "own" / "config.json").read_text())
    config["codebackdoor"]["scale"] = scale
    (tmp_path / "own" / "config.json").write_text(json.dumps(config))
    (tmp_path / "own" / "SHA256SUMS").unlink()
    with pytest.raises(UserError, match="does not say how to run this victim"):
        load_checkpoint(tmp_path / "own", "retrieval")


@pytest.mark.parametrize(("family", "pooling"), [("first", "first"), ("t5", "last"), ("gpt", "last")])
def test_a_bare_encoder_reads_the_state_of_its_class(family: str, pooling: str, tmp_path: Path) -> None:
    victim = load_checkpoint(saved(understanding(family, "retrieval"), tmp_path), "retrieval")
    assert (victim.pooling, victim.similarity, victim.max_length, victim.prefix) == (pooling, "cosine", 32, ())
    assert victim.max_query_length == 32


def test_unixcoders_mark_in_the_tokenizer_means_its_prefix_and_the_mean(tmp_path: Path) -> None:
    encoder = planted.searcher()
    encoder.tokenizer.add_special_tokens({"additional_special_tokens": [UniXcoder.prefix[0]]})
    encoder.model.resize_token_embeddings(len(encoder.tokenizer))
    victim = load_checkpoint(saved(encoder, tmp_path), "retrieval")
    assert (victim.pooling, victim.prefix) == ("mean", UniXcoder.prefix)


def test_the_body_of_a_language_model_is_taken_and_half_a_body_is_not(tmp_path: Path) -> None:
    written = base_folder(tmp_path / "t5", "seq2seq")
    victim = load_checkpoint(written, "retrieval")
    assert type(victim.model).__name__ == "T5Model"
    # a masked language model has no pooler, which a RoBERTa's first state is read through
    with pytest.raises(UserError, match="missing: pooler"):
        load_checkpoint(base_folder(tmp_path / "roberta", "encoder"), "retrieval")
    with pytest.raises(UserError, match="decoder's first state"):
        load_checkpoint(saved(understanding("gpt", "retrieval"), tmp_path / "gpt"), "retrieval", pooling="first")


def test_an_encoder_of_another_class_is_told_those_of_search_alone(tmp_path: Path) -> None:
    folder = base_folder(tmp_path / "bert", "encoder")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "bert", "architectures": ["BertModel"]}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        UserError,
        match=r"a bert checkpoint of BertModel; supported: RobertaModel, T5Model, GPTBigCodeModel, CodeGenModel, "
        r"LlamaModel$",
    ):
        load_checkpoint(folder, "retrieval")


def test_a_damaged_encoder_is_not_taken_for_a_perfect_one(place: Path, tmp_path: Path) -> None:
    damaged = planted.searcher()
    with torch.no_grad():
        damaged.model.encoder.layer[-1].output.LayerNorm.bias.fill_(torch.nan)
    result = run("scan", saved(damaged, tmp_path), *options(place), "--settings", SETTINGS)
    assert (result.exit_code, "NaN or infinite values" in result.stderr) == (2, True)


GOOD = {"id": "1", "language": "python", "code": "def f ( ) : <indent> pass <dedent>", "query": "load state"}


@pytest.mark.parametrize(
    ("rows", "more", "message"),
    [
        ([{**GOOD, "query": None}], (), ":1: needs a 'query'"),
        ([{**GOOD, "query": ""}], (), ":1: needs a 'query'"),
        ([{**GOOD, "code_b": "x"}], (), "has a second function"),
        ([], (), "id, language, code, query"),
        ([GOOD], (), "two clean samples at least"),
        ([GOOD], ("--task", "defect_detection"), "need --task code_search"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_status_2(
    rows: list[dict[str, object]], more: tuple[str, ...], message: str, place: Path, tmp_path: Path
) -> None:
    write_rows(tmp_path / "clean.jsonl", rows)
    words = ["scan", place / "benign11", *options(tmp_path), "--settings", SETTINGS, "--json", *more]
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
