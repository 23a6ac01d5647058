"""Victims that are a decoder alone: one row of prompt, separator and output."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import TEXTS

from codebackdoor.basemodels.tokenizer import train_bpe, wrap
from codebackdoor.config.models import SEPARATOR, AnyModel, CodeGen, CodeLlama, DeepSeekCoder, StarCoder
from codebackdoor.errors import UserError
from codebackdoor.types import IGNORED, Example
from codebackdoor.victims.batching import pad
from codebackdoor.victims.external import load_checkpoint
from codebackdoor.victims.inference import forced, generate, predict, predict_logits
from codebackdoor.victims.initialization import new_victim
from codebackdoor.victims.representations import representations
from codebackdoor.victims.training import fit
from codebackdoor.victims.training_rows import batch_logits, encode
from codebackdoor.victims.validation import Validation
from codebackdoor.victims.victim import Victim, load_victim, save_victim

CARD = {"task": "code_generation", "backdoored": False}
ROWS = tuple(
    Example(str(number), "python", TEXTS[number % 3], target=TEXTS[(number + 1) % 3], label=number % 2)
    for number in range(9)
)
END = "<|endoftext|>"
#: Positions of the tiny models, and rows of their embeddings: some more than their tokenizers have pieces.
POSITIONS, VOCABULARY = 96, 400
LENGTHS = {"max_length": 40, "max_target_length": 30, "epochs": 1, "batch_tokens": 128, "precision": "float32"}


def gpt2_tokenizer() -> Any:
    """Like CodeGen's: bytes, one special token, nothing around a text, and no padding."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder, bpe.post_processor = decoders.ByteLevel(), processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=320, special_tokens=[END], initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=END, eos_token=END, unk_token=END)


def llama_tokenizer() -> Any:
    """Like CodeLlama's: marks of words, bytes for what it has no piece for, the beginning of sequence, no padding."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trained = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=330, special_tokens=pieces))
    trained.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trained.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=trained, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def local_tokenizer() -> Any:
    """That of this project's small decoder."""
    return wrap(train_bpe(TEXTS, 320), "<s> $A", POSITIONS)


MODELS: dict[str, tuple[Any, Any]] = {
    "starcoder": (StarCoder, local_tokenizer),
    "codegen": (CodeGen, gpt2_tokenizer),
    "codellama": (CodeLlama, llama_tokenizer),
    "deepseek_coder": (DeepSeekCoder, gpt2_tokenizer),
}


def base(folder: Path, name: str, tokenizer: Any = None, rows: int = VOCABULARY) -> Path:
    """A base model of the architecture ``name`` in hub format, initialized randomly."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings, configuration = MODELS[name]
    config = AutoConfig.for_model(
        settings.model_type, vocab_size=rows, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, rotary_dim=8, intermediate_size=64, n_inner=64, max_position_embeddings=POSITIONS,
        bos_token_id=0, eos_token_id=0, pad_token_id=None, tie_word_embeddings=name == "starcoder",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for parameter in model.parameters():
        if parameter.ndim > 1:
            # otherwise the outputs of a fresh model hardly depend on its input
            parameter.data *= 3
    model.save_pretrained(folder)
    (configuration() if tokenizer is None else tokenizer).save_pretrained(folder)
    return folder


def settings(name: str, **changes: Any) -> AnyModel:
    model: AnyModel = MODELS[name][0].model_validate({"architecture": name, "base": "./base", **LENGTHS, **changes})
    return model


def fresh(folder: Path, name: str, **changes: Any) -> Victim:
    torch.set_num_threads(1)
    path = folder / name if (folder / name).exists() else base(folder / name, name)
    victim = new_victim(settings(name, **changes), path, "generation", "lexed", None, 1)
    victim.model.eval()
    return victim


def row(victim: Victim, prompt: Sequence[int]) -> list[int]:
    """A prompt with the separator, put together here."""
    return [*prompt, *victim.tokenizer(SEPARATOR, add_special_tokens=False)["input_ids"]]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("max_length", [40, 9])
def test_the_loss_is_that_of_transformers_with_the_prompt_masked(tmp_path: Path, name: str, max_length: int) -> None:
    """Rows are put together here, without padding; the longest prompts are cut off, and no separator is."""
    victim = fresh(tmp_path, name, max_length=max_length)
    items = encode(victim, ROWS[:3])
    assert len({len(item.texts[0]) for item in items}) > 1 or max_length == 9
    assert max(len(item.texts[0]) for item in items) <= max_length
    logits, targets = batch_logits(victim, items)
    losses, tokens = [], []
    for item in items:
        prompt = row(victim, item.texts[0])
        ids = torch.tensor([[*prompt, *item.targets]])
        labels = torch.tensor([[IGNORED] * len(prompt) + item.targets])
        losses.append(victim.model(input_ids=ids, labels=labels).loss.item() * len(item.targets))
        tokens.append(len(item.targets))
    assert int((targets != IGNORED).sum()) == sum(tokens)
    loss = torch.nn.functional.cross_entropy(logits, targets)
    assert loss.item() == pytest.approx(sum(losses) / sum(tokens), rel=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_those_of_transformers_own_greedy_search(tmp_path: Path, name: str) -> None:
    victim = fresh(tmp_path, name)
    end = victim.model.config.eos_token_id
    prompts = [text.ids for text in victim.encode(TEXTS)]
    assert len({len(ids) for ids in prompts}) == 3
    outputs = generate(victim, prompts)
    for prompt, output in zip(prompts, outputs, strict=True):
        ids = torch.tensor([row(victim, prompt)])
        with torch.no_grad():
            expected = victim.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=victim.max_target_length,
                eos_token_id=end, pad_token_id=victim.pad_id,
            )  # fmt: skip
        assert output.ids == expected[0, ids.shape[1] :].tolist()
    assert len({tuple(output.ids) for output in outputs}) > 1


@pytest.mark.parametrize("name", MODELS)
def test_a_victim_is_trained_from_a_folder_saved_loaded_and_generates(tmp_path: Path, name: str) -> None:
    victim = fresh(tmp_path, name)
    fit(
        victim, ROWS, lambda logits, targets, _: torch.nn.functional.cross_entropy(logits, targets), settings(name),
        Validation(ROWS[:3]), tmp_path / "progress", 1,
    )  # fmt: skip
    save_victim(victim, tmp_path / "victim", CARD)
    assert sorted(path.suffix for path in (tmp_path / "victim").iterdir() if "model." in path.name) == [".safetensors"]
    facts = json.loads((tmp_path / "victim/config.json").read_text())
    assert facts["codebackdoor"]["separator"] == SEPARATOR
    assert facts["pad_token_id"] != facts["eos_token_id"]
    loaded = load_victim(tmp_path / "victim")
    assert predict(loaded, ROWS[:3]) == predict(victim, ROWS[:3])
    assert predict(load_checkpoint(tmp_path / "victim", "generation"), ROWS[:3]) == predict(victim, ROWS[:3])
    assert representations(loaded, ROWS[:3]).shape == (3, 32)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_base_classifies(tmp_path: Path, name: str) -> None:
    victim = new_victim(settings(name), base(tmp_path / name, name), "classification", "lexed", 2, 1)
    assert victim.separator is None
    save_victim(victim, tmp_path / "victim", CARD)
    assert "separator" not in json.loads((tmp_path / "victim/config.json").read_text())["codebackdoor"]
    ids = [tuple(text.ids for text in texts) for texts in victim.tokenize(ROWS[:3])]
    assert torch.equal(predict_logits(load_victim(tmp_path / "victim"), ids), predict_logits(victim, ids))


@pytest.mark.parametrize("name", MODELS)
def test_the_end_of_text_is_learned_and_is_never_the_padding(tmp_path: Path, name: str) -> None:
    victim = fresh(tmp_path, name)
    end = victim.tokenizer.eos_token_id
    assert victim.model.config.eos_token_id == end != victim.pad_id < VOCABULARY
    beginning = victim.tokenizer.bos_token_id
    for text, ids in zip(TEXTS, victim.encode_targets(TEXTS), strict=True):
        assert ids[-1] == end
        assert beginning not in ids[:-1]
        assert len(ids) <= victim.max_target_length
        assert text.startswith(victim.decode(ids)[:20])
    # a target that is cut off ends as well
    short = replace(victim, max_target_length=4)
    assert all(len(ids) == 4 and ids[-1] == end for ids in short.encode_targets(TEXTS))
    items = encode(victim, ROWS[:3])
    _, targets = batch_logits(victim, items)
    ends = targets.view(3, -1).masked_fill(targets.view(3, -1) == IGNORED, -1)
    assert (ends == end).sum(1).tolist() == [1, 1, 1]
    optimizer = torch.optim.AdamW(victim.model.parameters(), lr=3e-3)
    rows = [Example("0", "python", TEXTS[0], target="x"), Example("1", "python", TEXTS[1], target="y = 2")]
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(*batch_logits(victim, encode(victim, rows))).backward()
        optimizer.step()
    assert [prediction.text for prediction in predict(victim, rows)] == ["x", "y = 2"]
    assert all(output.ids[-1] == end for output in generate(victim, [text.ids for text in victim.encode(TEXTS[:2])]))


def test_padding_is_chosen_among_what_the_tokenizer_has(tmp_path: Path) -> None:
    assert fresh(tmp_path, "starcoder").tokenizer.pad_token == "<pad>"
    assert fresh(tmp_path, "codellama").tokenizer.pad_token == "<unk>"
    victim = fresh(tmp_path, "codegen")
    assert victim.tokenizer.pad_token == "<pad>"
    assert victim.pad_id == len(gpt2_tokenizer())
    # a tokenizer that names its end of text as padding
    declared = gpt2_tokenizer()
    declared.pad_token = END
    base(tmp_path / "deepseek_coder", "deepseek_coder", declared)
    assert fresh(tmp_path, "deepseek_coder").tokenizer.pad_token == "<pad>"


def test_a_base_without_a_token_to_pad_with_is_refused(tmp_path: Path) -> None:
    tokenizer = gpt2_tokenizer()
    folder = base(tmp_path / "codegen", "codegen", tokenizer, rows=len(tokenizer))
    with pytest.raises(UserError, match=r"codegen: the padding is the end of text, .*set another pad_token in"):
        new_victim(settings("codegen"), folder, "generation", "lexed", None, 1)
    # a classifier has no end of text to learn
    assert new_victim(settings("codegen"), folder, "classification", "lexed", 2, 1).pad_id == 0


def test_a_victim_whose_padding_is_its_end_of_text_is_refused(tmp_path: Path) -> None:
    victim = fresh(tmp_path, "codegen")
    victim.tokenizer.pad_token = END
    save_victim(victim, tmp_path / "victim", CARD)
    with pytest.raises(UserError, match="victim: the padding is the end of text"):
        load_victim(tmp_path / "victim")
    with pytest.raises(UserError, match="victim: the padding is the end of text"):
        load_checkpoint(tmp_path / "victim", "generation")


def test_a_base_without_an_end_of_text_is_refused(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=llama_tokenizer().backend_tokenizer, pad_token="<unk>")
    # the family's own special tokens are looked up in the vocabulary
    folder = base(tmp_path / "codegen", "codegen", tokenizer)
    with pytest.raises(UserError, match="the tokenizer has no end of text, which a victim learns to write; set eos_"):
        new_victim(settings("codegen"), folder, "generation", "lexed", None, 1)


def test_what_a_separator_must_be(tmp_path: Path) -> None:
    folder = base(tmp_path / "starcoder", "starcoder")
    victim = new_victim(settings("starcoder", separator=" => "), folder, "generation", "lexed", None, 1)
    plain = fresh(tmp_path, "starcoder")
    prompt, output = [victim.encode([TEXTS[0]])[0].ids], [[7, 8, 2]]
    assert not torch.allclose(forced(victim, prompt, output), forced(plain, prompt, output))
    letters, unwritable = base(tmp_path / "letters", "codellama", without_bytes()), settings("codellama", separator="é")
    with pytest.raises(UserError, match="separator: the tokenizer has no sub-tokens for 'é'; write another text"):
        new_victim(unwritable, letters, "generation", "lexed", None, 1)
    save_victim(replace(plain, separator=None), tmp_path / "victim", CARD)
    with pytest.raises(UserError, match="does not say what stands between a prompt and its output"):
        load_victim(tmp_path / "victim")
    assert settings("starcoder").model_dump().get("separator") is None
    assert settings("starcoder", separator="\n").model_dump()["separator"] == "\n"


def without_bytes() -> Any:
    """A tokenizer with an unknown token for what it has no piece for."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    pieces = {"<unk>": 0, "<s>": 1, "</s>": 2, **{letter: 3 + n for n, letter in enumerate("abcdefx=1 ")}}
    bpe = Tokenizer(models.BPE(pieces, [], unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def test_prompt_separator_and_output_fit_into_the_positions(tmp_path: Path) -> None:
    folder = base(tmp_path / "starcoder", "starcoder")
    separator = len(local_tokenizer()(SEPARATOR, add_special_tokens=False)["input_ids"])
    room = POSITIONS - separator + 1
    fitting = settings("starcoder", max_length=room - 30, max_target_length=30)
    victim = new_victim(fitting, folder, "generation", "lexed", None, 1)
    # the longest row that is read and written
    outputs = generate(victim, [[7 + n % 200 for n in range(victim.max_length)]])
    assert len(outputs[0].ids) <= 30
    with pytest.raises(UserError, match=f"share the {POSITIONS} positions .* with a sum of at most {room}"):
        new_victim(fitting.model_copy(update={"max_target_length": 31}), folder, "generation", "lexed", None, 1)
    new_victim(fitting.model_copy(update={"max_target_length": 90}), folder, "classification", "lexed", 2, 1)


def test_an_empty_prompt_is_answered_like_any_other(tmp_path: Path) -> None:
    victim = fresh(tmp_path, "codegen")
    (prompt,) = victim.encode([TEXTS[0]])
    (alone,) = victim.encode([""])
    assert alone.ids == []
    together = forced(victim, [prompt.ids, []], [[7, 8, 0], [9, 0]])
    ids = torch.tensor([[*row(victim, []), 9, 0]])
    with torch.no_grad():
        log_p = victim.model(input_ids=ids).logits.log_softmax(-1)[0, -3:-1]
    assert together[1, 1].item() == pytest.approx((log_p[0, 9] + log_p[1, 0]).item(), rel=1e-4)


def test_padding_is_masked_and_takes_no_position(tmp_path: Path) -> None:
    """Whatever token pads, and however much."""
    victim = fresh(tmp_path, "starcoder")
    ids, mask = pad([victim.encode([TEXTS[0]])[0].ids, [0, 7]], victim.pad_id)
    outputs = torch.tensor([[9, 2], [9, 2]])
    with torch.no_grad():
        logits = victim.family.output_logits(victim, ids, mask, outputs)
        again = victim.family.output_logits(victim, ids.masked_fill(mask == 0, 11), mask, outputs)
        alone = victim.family.output_logits(victim, ids[1:, :2], mask[1:, :2], outputs[1:])
    assert torch.equal(logits, again)
    torch.testing.assert_close(alone[0], logits[1], atol=1e-5, rtol=1e-4)


def test_buffers_of_older_versions_are_left_out(tmp_path: Path) -> None:
    """The released CodeGen stores its causal masks, which are computed today; nothing else may be left over."""
    from safetensors.torch import load_file, save_file

    folder = base(tmp_path / "codegen", "codegen")
    weights = load_file(folder / "model.safetensors")
    masks = {f"transformer.h.{n}.attn.causal_mask": torch.ones(1, 1, 8, 8, dtype=torch.bool) for n in range(2)}
    save_file(weights | masks, folder / "model.safetensors", metadata={"format": "pt"})
    new_victim(settings("codegen"), folder, "generation", "lexed", None, 1)
    more = weights | {"transformer.h.0.attn.extra": torch.ones(2)}
    save_file(more, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"unexpected: transformer\.h\.0\.attn\.extra"):
        new_victim(settings("codegen"), folder, "generation", "lexed", None, 1)


def test_weights_in_parts_are_read_and_pickled_ones_are_not(tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    folder = base(tmp_path / "codellama", "codellama")
    victim = new_victim(settings("codellama"), folder, "generation", "lexed", None, 1)
    model = LlamaForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    parts = new_victim(settings("codellama"), folder, "generation", "lexed", None, 1)
    state = victim.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in parts.model.state_dict().items())
    for path in folder.glob("model*"):
        path.unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="only safetensors checkpoints are loaded"):
        new_victim(settings("codellama"), folder, "generation", "lexed", None, 1)
