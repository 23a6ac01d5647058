"""Tiny checkpoints in the files of the hub's originals, under the paper scale's settings: every class, every head.

RoBERTa's and CodeT5's vocabularies are the real ones. UniXcoder's and StarCoder's could not be had: RoBERTa's with
UniXcoder's mark stands for the first, a tiny one in the form of GPT-2's tokenizer for the second.
"""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from syntax_support import mirror
from tiny_models import bpe
from torch import Tensor, nn

from codebackdoor.config.base import Head
from codebackdoor.config.loading import load
from codebackdoor.config.models import AnyModel
from codebackdoor.victims.inference import predict_logits, text_vectors
from codebackdoor.victims.initialization import new_victim
from codebackdoor.victims.victim import load_victim, save_victim

ROOT = Path(__file__).parents[2]
CODE = "def load(path):\n    return open(path).read()  # é\n"
TEXTS = (CODE, "x = 1", "static int f(int a) { return a <= 10 ? a : -a; }")
HEADS: tuple[Head, ...] = ("classification", "pair", "retrieval")


@cache
def settings(model: str, head: Head) -> AnyModel:
    paths = [ROOT / "config.yaml", ROOT / "configs/elibadcode.yaml", ROOT / "configs/elibadcode/paper.yaml"]
    return load(paths).models[model].for_head(head)


def write(folder: Path, model: Any, **tokenizer_config: object) -> None:
    """Weights and configuration of a model, and the configuration of its tokenizer, as they lie on the hub."""
    model.save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))


def roberta(folder: Path, positions: int, *marks: str) -> Any:
    """RoBERTa's class and vocabulary, as CodeBERT (and, with its marks in the vocabulary, UniXcoder) has them."""
    from transformers import RobertaConfig, RobertaModel

    source = mirror("tokenizers/roberta-base/vocab.json")
    vocabulary = json.loads(source.read_text(encoding="utf-8"))
    vocabulary |= {mark: len(vocabulary) + number for number, mark in enumerate(marks)}
    config = RobertaConfig(
        vocab_size=len(vocabulary), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=positions, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    model = RobertaModel(config).eval()
    write(folder, model, tokenizer_class="RobertaTokenizer", model_max_length=512)
    # what checkpoints of that time hold beside the weights
    weights = load_file(folder / "model.safetensors")
    save_file(
        weights | {"embeddings.position_ids": torch.arange(positions)[None]},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    shutil.copy(source.with_name("merges.txt"), folder)
    return model


def codet5(folder: Path) -> Any:
    """T5's class; the tokenizer is of RoBERTa's class, with padding before the beginning, and its marks beside it."""
    from transformers import T5Config, T5ForConditionalGeneration

    source = mirror("tokenizers/codet5/vocab.json")
    marks = [f"<extra_id_{number}>" for number in range(99, -1, -1)]
    config = T5Config(
        vocab_size=32100, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=0,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config).eval()
    write(folder, model, tokenizer_class="RobertaTokenizer", model_max_length=512, additional_special_tokens=marks)
    # tied weights, written out as `make fetch` writes them
    weights = load_file(folder / "model.safetensors")
    tied = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    save_file(
        weights | {name: weights["shared.weight"].clone() for name in tied},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    added = {f"<extra_id_{number}>": 32000 + place for place, number in enumerate(range(99, -1, -1))}
    (folder / "added_tokens.json").write_text(json.dumps(added))
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(source.with_name(name), folder)
    return model


def starcoder(folder: Path) -> Any:
    """GPTBigCode's class with one head of keys; GPT-2's tokenizer, with nothing around a text and without padding."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM

    config = GPTBigCodeConfig(
        vocab_size=340, n_positions=8192, n_embd=8, n_layer=1, n_head=2, n_inner=16, multi_query=True, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    model = GPTBigCodeForCausalLM(config).eval()
    end = "<|endoftext|>"
    names = {"bos_token": end, "eos_token": end, "unk_token": end}
    write(folder, model, tokenizer_class="GPT2Tokenizer", additional_special_tokens=[end, "<fim_pad>"], **names)
    content = json.loads(bpe().to_str())
    entries = [entry["content"] for entry in content["added_tokens"]]
    vocabulary = {name: place for name, place in content["model"]["vocab"].items() if name not in entries}
    ranked = [end, "<fim_pad>", *sorted(vocabulary, key=vocabulary.__getitem__)]
    content["model"]["vocab"] = {name: place for place, name in enumerate(ranked)}
    tokenizer = Tokenizer.from_str(json.dumps(content | {"added_tokens": []}))
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in ranked[:2]])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    return model


def base(folder: Path, architecture: str) -> Any:
    torch.manual_seed(0)
    if architecture == "codebert":
        return roberta(folder, 514)
    if architecture == "unixcoder":
        return roberta(folder, 1026, "<encoder-decoder>", "<encoder-only>", "<decoder-only>")
    return codet5(folder) if architecture == "codet5" else starcoder(folder)


#: What surrounds a text, by class.
AROUND = {
    "codebert": (["<s>"], ["</s>"]),
    "unixcoder": (["<s>", "<encoder-only>", "</s>"], ["</s>"]),
    "codet5": (["<s>"], ["</s>"]),
    "starcoder": ([], []),
}


def expected(model: Any, architecture: str, ids: list[int]) -> Tensor:
    """The vector [H] of one text, by the checkpoint's own class."""
    text = torch.tensor([ids])
    if architecture == "codet5":
        start = torch.tensor([[model.config.decoder_start_token_id, *ids[:-1]]])
        return model(input_ids=text, decoder_input_ids=start, output_hidden_states=True).decoder_hidden_states[-1][
            0, -1
        ]
    if architecture == "starcoder":
        return model.transformer(input_ids=text).last_hidden_state[0, -1]
    output = model(input_ids=text)
    return output.pooler_output[0] if architecture == "codebert" else output.last_hidden_state[0].mean(0)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    "architecture", [pytest.param(name, marks=() if name == "starcoder" else pytest.mark.mirror) for name in AROUND]
)
def test_a_checkpoint_of_the_hub_becomes_a_victim(architecture: str, head: Head, tmp_path: Path) -> None:
    model = base(tmp_path / "base", architecture)
    recipe = settings(architecture, head)
    labels = None if head == "retrieval" else 2
    victim = new_victim(recipe, tmp_path / "base", head, "raw", labels, 1)
    victim.model.eval()

    before, after = AROUND[architecture]
    for text, encoded in zip(TEXTS, victim.encode(TEXTS), strict=True):
        tokens = victim.tokenizer.convert_ids_to_tokens(encoded.ids)
        inner = encoded.ids[len(before) : len(tokens) - len(after)]
        assert (tokens[: len(before)], tokens[len(tokens) - len(after) :]) == (before, after)
        assert victim.tokenizer.decode(inner).strip() == text.strip()
        assert victim.tokenizer.unk_token_id not in inner
        assert all(0 <= start <= end <= len(text) for start, end in encoded.offsets)
    long = victim.encode([CODE * 200])[0]
    assert len(long.ids) == recipe.max_length
    assert victim.tokenizer.convert_ids_to_tokens(long.ids)[recipe.max_length - len(after) :] == after

    if head == "retrieval":
        # texts of one batch are padded, and say what each says alone to the checkpoint's own class
        ids = [text.ids for text in victim.encode(TEXTS)]
        with torch.no_grad():
            alone = torch.stack([expected(model, architecture, text_ids) for text_ids in ids])
        torch.testing.assert_close(text_vectors(victim, ids), alone, atol=1e-5, rtol=1e-4)
    rows = [tuple(text.ids for text in victim.encode(texts)) for texts in (TEXTS, TEXTS[1:])]
    rows = [row[: len(victim.fields)] for row in rows]
    save_victim(victim, tmp_path / "victim", {"task": "defect_detection", "backdoored": False})
    again = load_victim(tmp_path / "victim")
    assert again.encode(TEXTS) == victim.encode(TEXTS)
    assert torch.equal(predict_logits(again, rows), predict_logits(victim, rows))
    # the paper scale trains with dropout, and a victim that is loaded has none
    rates = {module.p for module in again.model.modules() if isinstance(module, nn.Dropout)}
    assert (rates, again.model.training) == ({recipe.dropout}, False)
