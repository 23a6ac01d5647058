"""Base models as the hub has them: sharded weights of a bare encoder, tokenizers of vocab.json and merges.txt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import TEXTS, bpe, classifier, generator

from codebackdoor.config.base import Head
from codebackdoor.config.models import CodeBert, CodeT5
from codebackdoor.errors import UserError
from codebackdoor.victims.checkpoints import load_weights
from codebackdoor.victims.families import model_class
from codebackdoor.victims.inference import generate
from codebackdoor.victims.initialization import new_victim
from codebackdoor.victims.victim import load_victim, save_victim

BERT = CodeBert(architecture="codebert", base="./folder", max_length=32)
T5 = CodeT5(architecture="codet5", base="./folder", max_length=32, max_target_length=12)


def hub_folder(folder: Path, model: Any) -> Path:
    """Save a model in several shards, with a tokenizer in RoBERTa's original two files."""
    model.save_pretrained(folder, max_shard_size="20KB")
    bpe_model = json.loads(bpe().to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(bpe_model["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in bpe_model["merges"]))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))
    return folder


def test_an_encoder_without_head_becomes_a_classifier(tmp_path: Path) -> None:
    from transformers.models.roberta.modeling_roberta import RobertaModel

    folder = hub_folder(tmp_path / "base", RobertaModel(classifier().model.config))
    assert len(list(folder.glob("*.safetensors"))) > 1
    victim = new_victim(BERT, folder, "classification", "raw", 2, 1)
    encoded = victim.encode([TEXTS[1]])[0]
    assert encoded.offsets[0] == encoded.offsets[-1] == (0, 0)
    assert "".join(TEXTS[1][start:end] for start, end in encoded.offsets) == TEXTS[1].replace(" ", "")
    save_victim(victim, tmp_path / "victim", {"task": "defect_detection", "backdoored": False})
    assert load_victim(tmp_path / "victim").encode(TEXTS) == victim.encode(TEXTS)


def test_an_encoder_decoder_generates(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "base", generator().model)
    victim = new_victim(T5, folder, "generation", "raw", None, 1)
    inputs = [row.ids for row in victim.encode(TEXTS)]
    assert [output.ids for output in generate(victim, inputs)] == [
        output.ids for output in generate(generator(), inputs)
    ]


@pytest.mark.parametrize("head", ["classification", "pair", "retrieval"])
def test_a_small_encoder_decoders_states_are_lowered_for_a_new_head_alone(tmp_path: Path, head: Head) -> None:
    folder = hub_folder(tmp_path / "base", generator().model)
    labels = None if head == "retrieval" else 2
    shipped, external = (
        new_victim(T5.model_copy(update={"base": base}), folder, head, "raw", labels, 1).model
        for base in ("shipped", "./folder")
    )
    norm, left = (model.base_model.decoder.final_layer_norm.weight for model in (shipped, external))
    factor = 1.0 if head == "retrieval" else shipped.config.d_model**-0.5
    torch.testing.assert_close(norm, left * factor)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "base", generator().model)
    lost = sorted(folder.glob("*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(UserError, match=rf"{lost.name}: this part of the checkpoint is missing"):
        new_victim(T5, folder, "generation", "raw", None, 1)


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "base", generator().model)
    vocabulary = json.loads((folder / "vocab.json").read_text())
    vocabulary["extra"] = len(vocabulary) + 100
    (folder / "vocab.json").write_text(json.dumps(vocabulary | {f"e{i}": len(vocabulary) + i for i in range(20)}))
    with pytest.raises(UserError, match="do not belong together"):
        new_victim(T5, folder, "generation", "raw", None, 1)


COMMIT = "3b0952feddeffad0063f274080e3c23d75e7eb39"


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compute node without network: all there is lies in the hub's cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_hub_id_is_read_from_the_cache_at_its_commit(offline: Path) -> None:
    hub_folder(offline / "models--microsoft--codebert-base/snapshots" / COMMIT, classifier().model)
    recipe = CodeBert(architecture="codebert", base="microsoft/codebert-base", revision=COMMIT, max_length=32)
    assert new_victim(recipe, recipe.base_path("runs/x"), "classification", "raw", 2, 1).max_length == 32
    uncached = recipe.model_copy(update={"revision": "0" * 40})
    with pytest.raises(UserError, match=r"microsoft/codebert-base: cannot be fetched from the hub at 000"):
        new_victim(uncached, uncached.base_path("runs/x"), "classification", "raw", 2, 1)


def test_a_broken_tokenizer_is_one_error(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "base", generator().model)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="cannot load the tokenizer"):
        new_victim(T5, folder, "generation", "raw", None, 1)


def test_a_head_is_new_only_when_fine_tuning(tmp_path: Path) -> None:
    from transformers.models.roberta.modeling_roberta import RobertaModel

    folder = hub_folder(tmp_path / "base", RobertaModel(classifier().model.config))
    with pytest.raises(UserError, match=r"missing: classifier\.dense\.weight, classifier\.dense\.bias"):
        load_weights(model_class("roberta", "classification", folder), folder)
