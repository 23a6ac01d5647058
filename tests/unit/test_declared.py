"""Base and helper models that no job can use are refused before a run, from their small files alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codebackdoor.config.loading import read_yaml, validate
from codebackdoor.dag import Dag
from codebackdoor.errors import UserError
from codebackdoor.files import sha256
from codebackdoor.originals.lock import Lock
from codebackdoor.victims.declared import helper_problems

ROOT = Path(__file__).parents[2]
DEFAULT = read_yaml(ROOT / "config.yaml")
COMMIT = "0" * 40


def folder(path: Path, like: str = "encoder", **config: Any) -> Path:
    """A model folder whose weights nobody looks at; a value of None takes a key out."""
    path.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ROOT / "basemodels" / like / name, path)
    merged = json.loads((ROOT / "basemodels" / like / "config.json").read_text()) | config
    (path / "config.json").write_text(json.dumps({key: value for key, value in merged.items() if value is not None}))
    (path / "model.safetensors").touch()
    return path


def check(models: dict[str, Any], dataset: str = "defects", **more: Any) -> None:
    grid = {"datasets": [dataset], "models": ["mine"], "attacks": ["none"], **more.pop("grid", {})}
    experiments = {"mine": {"title": "Mine", "grid": [grid]}}
    recipe = {"architecture": "codebert", **models}
    Dag(validate({**DEFAULT, **more, "models": {"mine": recipe}, "experiments": experiments})).check_files()


def refused(models: dict[str, Any], dataset: str = "defects", **more: Any) -> list[str]:
    with pytest.raises(UserError) as error:
        check(models, dataset, **more)
    return str(error.value).splitlines()


def test_a_base_of_another_class_is_refused(tmp_path: Path) -> None:
    bert = folder(tmp_path / "bert", model_type="bert")
    line = f"models.mine.base: {bert}: codebert is fine-tuned from a base of type 'roberta', this one is 'bert'"
    assert refused({"base": str(bert)}) == [line]
    plain = folder(tmp_path / "plain")
    for architecture, model_type in (("codet5", "t5"), ("starcoder", "gpt_bigcode")):
        (line,) = refused({"base": str(plain), "architecture": architecture})
        assert line.endswith(f"{architecture} is fine-tuned from a base of type '{model_type}', this one is 'roberta'")
    check({"base": str(plain)})
    check({"base": str(plain), "architecture": "unixcoder"})


@pytest.mark.parametrize(
    ("like", "architecture", "positions", "longest"),
    [("encoder", "codebert", "max_position_embeddings", 128), ("decoder", "starcoder", "n_positions", 128)],
)
def test_an_input_longer_than_a_base_reads_is_refused(
    like: str, architecture: str, positions: str, longest: int, tmp_path: Path
) -> None:
    base = folder(tmp_path / "base", like)
    recipe = {"base": str(base), "architecture": architecture}
    check(recipe | {"max_length": longest})
    line = f"models.mine.max_length: {base}: this base reads {longest} sub-tokens; write max_length: {longest} or less"
    assert refused(recipe | {"max_length": longest + 1}) == [line]
    search = {"task": "code_search", "train": 10}
    long_queries = recipe | {"max_length": 8, "max_query_length": 512}
    # queries are read in code search alone
    check(long_queries)
    (line,) = refused(long_queries, "search", datasets={**DEFAULT["datasets"], "search": search})
    assert line.startswith("models.mine.max_query_length: ")
    # a base that says nothing is left to the job
    check({"base": str(folder(tmp_path / "silent", like, **{positions: None})), "architecture": architecture,
           "max_length": 500})  # fmt: skip


def test_the_shipped_and_the_pretrained_bases_are_no_exception() -> None:
    assert refused({"max_length": 512}) == [
        "models.mine.max_length: basemodels/encoder: this base reads 128 sub-tokens; write max_length: 128 or less"
    ]
    recipe = {"encoder": {"family": "encoder", "max_length": 64}}
    check({"base": "pretrained", "max_length": 64}, pretraining=recipe)
    line = "models.mine.max_length: runs/local/models/base/encoder: this base reads 64 sub-tokens; write max_length: 64"
    assert refused({"base": "pretrained"}, pretraining=recipe) == [f"{line} or less"]
    (line,) = refused({"base": "pretrained"}, pretraining={})
    assert line.startswith("models.mine.base: runs/local/models/base/encoder is not a model folder")
    assert "a recipe under `pretraining`" in line
    # T5 has no table of positions
    check({"architecture": "codet5", "max_length": 512})


def test_a_tokenizer_that_does_not_belong_to_its_model_is_refused(tmp_path: Path) -> None:
    base = folder(tmp_path / "small", vocab_size=4095)
    reason = "the tokenizer has a piece of id 4095, the model embeds 4095, from 0: they do not belong together"
    assert refused({"base": str(base)}) == [f"models.mine.base: {base}: {reason}"]
    base = folder(tmp_path / "none")
    (base / "tokenizer.json").unlink()
    (line,) = refused({"base": str(base)})
    assert "there is no tokenizer; put tokenizer.json there, or vocab.json with merges.txt" in line
    (base / "vocab.json").write_text('{"<pad>": 0, "a": 4096}')
    (line,) = refused({"base": str(base)})
    assert "a piece of id 4096, the model embeds 4096" in line
    (base / "vocab.json").write_text('{"<pad>": 0, "a": 4095}')
    check({"base": str(base)})


@pytest.mark.parametrize(("like", "architecture"), [("encoder", "codebert"), ("seq2seq", "codet5")])
def test_a_tokenizer_pads_by_what_its_class_has_or_its_files_name(like: str, architecture: str, tmp_path: Path) -> None:
    base = folder(tmp_path / "base", like)
    recipe = {"base": str(base), "architecture": architecture}
    # a folder as the hub has it for these classes
    (base / "tokenizer_config.json").write_text('{"model_max_length": 128}')
    check(recipe)
    (base / "tokenizer_config.json").unlink()
    check(recipe)
    text = (base / "tokenizer.json").read_text()
    (base / "tokenizer.json").write_text(text.replace("<pad>", "<blank>"))
    assert refused(recipe) == [
        f"models.mine.base: {base}: the tokenizer has no padding token; set pad_token in tokenizer_config.json"
    ]
    (base / "special_tokens_map.json").write_text('{"pad_token": "<blank>"}')
    check(recipe)


def test_a_decoder_pads_by_its_end_of_text(tmp_path: Path) -> None:
    base = folder(tmp_path / "base", "decoder")
    (base / "tokenizer.json").write_text((base / "tokenizer.json").read_text().replace("<pad>", "<blank>"))
    (base / "tokenizer_config.json").write_text("{}")
    check({"base": str(base), "architecture": "starcoder"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "expected a JSON object, not [1]"),
        ("[" * 100_000, "nested more than 100 levels deep"),
        ('{"model_type": NaN}', "NaN is not a valid number in JSON"),
        ("{", ":1: not JSON ("),
        ('{"model_type": ["roberta"]}', "a base of type 'roberta', this one is ['roberta']"),
        ("{}", "a base of type 'roberta', this one is None"),
        ('{"model_type": "roberta", "max_position_embeddings": "many", "vocab_size": true, "pad_token_id": []}', ""),
        ('{"model_type": "roberta", "max_position_embeddings": -5}', "this base reads -7 sub-tokens"),
    ],
)
def test_small_files_of_any_shape_are_one_line_or_left_to_the_job(content: str, message: str, tmp_path: Path) -> None:
    base = folder(tmp_path / "base")
    (base / "config.json").write_text(content)
    if not message:
        check({"base": str(base)})
        return
    (line,) = refused({"base": str(base)})
    assert line.startswith("models.mine.")
    assert message in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "expected a JSON object"),
        ("{}", "no padding token"),
        ('{"model": 5, "added_tokens": 7}', "no padding token"),
        ('{"model": {"vocab": {"<pad>": "x"}}}', "no padding token"),
        ('{"model": {"vocab": [["<pad>", 0.0], 3, []]}, "added_tokens": [null]}', ""),
    ],
)
def test_a_tokenizer_of_any_shape_is_one_line(content: str, message: str, tmp_path: Path) -> None:
    base = folder(tmp_path / "base")
    (base / "tokenizer.json").write_text(content)
    for name in ("tokenizer_config.json",):
        (base / name).unlink()
    if not message:
        check({"base": str(base)})
        return
    (line,) = refused({"base": str(base)})
    assert message in line


def test_a_helper_of_another_class_is_refused(tmp_path: Path) -> None:
    plain = folder(tmp_path / "plain", "encoder")
    with_onion = {"grid": {"purifications": ["onion"]}, "helpers": {"language_model": str(plain)}}
    (line,) = refused({}, **with_onion)
    assert line.startswith(
        f"helpers.language_model: {plain}: a model of type 'roberta' cannot be the language_model; known: gpt2"
    )
    with_onion["helpers"] = {"language_model": str(folder(tmp_path / "causal", "causal"))}
    check({}, **with_onion)
    with_onion["helpers"] = {"language_model": str(folder(tmp_path / "bad", "causal", vocab_size=3))}
    (line,) = refused({}, **with_onion)
    assert "they do not belong together" in line


def test_a_checkpoint_that_a_mirror_has_is_looked_at_like_a_folder(tmp_path: Path) -> None:
    place = f"hub/owner/name/{COMMIT}"
    base = folder(tmp_path / place, model_type="bert")
    for path in sorted(base.iterdir(), key=lambda path: path.name == "config.json"):
        Lock(tmp_path).record(f"{place}/{path.name}", sha256(path))
    recipe = {"base": "owner/name", "revision": COMMIT}
    mine = {"task": "defect_detection", "source": "jsonl", "path": str(rows(tmp_path / "rows"))}
    overrides = {"datasets": {"mine": mine}, "mirror": str(tmp_path)}
    (line,) = refused(recipe, "mine", **overrides)
    assert line.endswith("codebert is fine-tuned from a base of type 'roberta', this one is 'bert'")
    # without a mirror a job fetches it
    check(recipe, "mine", datasets={"mine": mine})


def rows(path: Path) -> Path:
    path.mkdir()
    for split in ("train", "valid", "test"):
        (path / f"{split}.jsonl").touch()
    return path


def test_the_classes_are_those_that_the_jobs_load() -> None:
    from codebackdoor.config.models import CodeBert, CodeT5, StarCoder, UniXcoder
    from codebackdoor.defenses.helpers import CAUSAL, MASKED, REPLACED
    from codebackdoor.victims.families import FAMILIES
    from codebackdoor.victims.families.helpers import HELPER_MODELS

    # the paraphraser may have any class that writes text
    loaded = {"infiller": MASKED, "language_model": CAUSAL, "english_model": CAUSAL, "discriminator": REPLACED}
    assert {name: [cls.model_type] for name, cls in HELPER_MODELS.items()} == {
        name: list(classes) for name, classes in loaded.items()
    }
    for cls in (CodeBert, UniXcoder, CodeT5, StarCoder):
        assert all(FAMILIES[cls.model_type].model_class(head) is not None for head in cls.fits)


def test_adapters_that_fit_no_layer_are_refused(tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(ROOT / "basemodels/encoder", base)
    (line,) = refused({"base": str(base), "adapters": {"modules": ["qq"]}})
    assert line.startswith(f"models.mine.adapters.modules: {base}: no layer of this base is named qq; write some of ")
    assert {"query", "value"} <= set(line.partition("some of ")[2].split(", "))
    check({"base": str(base), "adapters": {"modules": ["qq", "query"]}})
    fitting = {"method": "moderate_fitting", "adapters": {"modules": ["qq"]}}
    more = {"objectives": {**DEFAULT["objectives"], "moderate": fitting}, "grid": {"objectives": ["moderate"]}}
    (line,) = refused({"base": str(base)}, **more)
    assert line.startswith(f"objectives.moderate.adapters.modules: {base}: no layer of this base is named qq; ")


def test_a_paraphraser_that_neither_translates_nor_chats_is_refused(tmp_path: Path) -> None:
    folders = {"t5": folder(tmp_path / "t5", "seq2seq"), "chat": folder(tmp_path / "chat", "causal")}
    (folders["chat"] / "chat_template.jinja").write_text("{{ messages[0].content }}")
    for path in folders.values():
        assert not list(helper_problems(path, "paraphraser"))
    (line,) = helper_problems(ROOT / "basemodels/encoder", "paraphraser")
    assert line.endswith("or chat_template.jinja); this model of type 'roberta' is neither")


def test_a_predicate_that_does_not_always_hold_is_refused() -> None:
    attack = {"method": "codepoisoner_deadcode", "target_place": "where_clause", "target_predicate": "0=1"}
    sections = {"attacks": {"mine": attack}, "grid": {"attacks": ["mine"], "rates": [0.1]}}
    message = "attacks.mine.target_predicate: '0=1' does not always hold; write a predicate such as '1=1'"
    assert refused({"architecture": "codet5"}, "repair", **sections) == [message]
    attack["target_predicate"] = "2=2"
    check({"architecture": "codet5"}, "repair", **sections)


def test_a_machine_that_cannot_isolate_is_refused_before_a_run_that_executes(monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"mine": {"architecture": "codebert"}}
    grid = [{"datasets": ["defects"], "models": ["mine"], "attacks": ["none"]}]
    dag = Dag(validate({**DEFAULT, "models": models, "experiments": {"mine": {"title": "Mine", "grid": grid}}}))
    monkeypatch.setattr("codebackdoor.evaluation.execution.seccomp.supported", lambda: False)
    dag.check_isolation([SimpleNamespace(name="train")])
    with pytest.raises(UserError, match="generated code runs on 64-bit Linux"):
        dag.check_isolation([SimpleNamespace(name="train"), SimpleNamespace(name="execute")])
