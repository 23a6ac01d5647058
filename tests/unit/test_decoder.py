"""The decoder of an encoder: what it computes, how it begins, how it is stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import TEXTS, base_folder, encoder_with_decoder, generator
from torch import Tensor, nn

from codebackdoor.config.models import CodeBert
from codebackdoor.errors import UserError
from codebackdoor.victims.batching import pad
from codebackdoor.victims.declared import base_problems
from codebackdoor.victims.decoder import Decoder
from codebackdoor.victims.external import load_checkpoint
from codebackdoor.victims.inference import generate
from codebackdoor.victims.initialization import new_victim
from codebackdoor.victims.victim import Victim, load_victim, save_victim

CARD = {"task": "code_repair", "backdoored": False}
RECIPE = CodeBert(architecture="codebert", base="./folder", max_length=32, max_target_length=12)


def torchs(decoder: Decoder, heads: int) -> nn.TransformerDecoder:
    """PyTorch's decoder with the same weights."""
    width, inner = decoder.dense.in_features, decoder.layers[0].linear1.out_features
    layer = nn.TransformerDecoderLayer(width, heads, inner, dropout=0.0, batch_first=True)
    reference = nn.TransformerDecoder(layer, len(decoder.layers))
    reference.load_state_dict(
        {
            name.replace("in_proj.", "in_proj_"): weight
            for name, weight in decoder.state_dict().items()
            if "dense" not in name
        }
    )
    return reference.eval()


def test_the_layers_compute_what_pytorchs_decoder_computes() -> None:
    victim = encoder_with_decoder()
    decoder = victim.model.decoder
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    draw = torch.Generator().manual_seed(1)
    outputs, encoded = torch.randn(3, 6, 32, generator=draw), torch.randn(3, 5, 32, generator=draw)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    later = torch.ones(6, 6, dtype=torch.bool).triu(1)
    with torch.no_grad():
        states, _ = decoder(outputs, decoder.memory(encoded, mask))
        plain = torchs(decoder, 2)(outputs, encoded, tgt_mask=later, memory_key_padding_mask=mask == 0)
        torch.testing.assert_close(states, torch.tanh(decoder.dense(plain)), atol=1e-5, rtol=1e-4)


def test_a_new_decoder_is_initialized_as_pytorch_does_and_every_layer_by_itself() -> None:
    """PyTorch copies one layer; here each has its own draw (docs/fidelity.md)."""
    victim = encoder_with_decoder(seed=3)
    layer = nn.TransformerDecoderLayer(32, 2, victim.model.config.decoder_ffn_dim)
    first, second = (part.state_dict() for part in victim.model.decoder.layers)
    for name, weight in layer.state_dict().items():
        value = first[name.replace("in_proj_", "in_proj.")]
        assert value.shape == weight.shape
        assert value.std().item() == pytest.approx(weight.std().item(), rel=0.35, abs=1e-9), name
        assert value.abs().max().item() <= 1.2 * weight.abs().max().item(), name
    assert not torch.equal(first["linear1.weight"], second["linear1.weight"])


def test_positions_begin_after_the_paddings_and_the_output_layer_is_the_embeddings() -> None:
    victim = encoder_with_decoder()
    model = victim.model
    ids, mask = pad([[0, 7, 8, 2], [0, 9, 2]], victim.pad_id)
    outputs = torch.tensor([[30, 31, 32, 2], [33, 34, 35, 36]])
    with torch.no_grad():
        logits = victim.family.output_logits(victim, ids, mask, outputs)
        memory = model.decoder.memory(model.roberta(input_ids=ids, attention_mask=mask).last_hidden_state, mask)
        # transformers' own positions of the output that begins with <s>
        shifted = torch.cat([torch.zeros(2, 1, dtype=torch.long), outputs[:, :-1]], 1)
        states, _ = model.decoder(model.roberta.embeddings(input_ids=shifted), memory)
        torch.testing.assert_close(logits, states @ model.roberta.embeddings.word_embeddings.weight.T)
    assert not [name for name, _ in model.named_parameters() if "lm_head" in name]


def test_dropout_acts_in_the_decoder_while_training() -> None:
    victim = encoder_with_decoder(dropout=0.5)
    mask = torch.ones(1, 4, dtype=torch.long)
    states = torch.randn(1, 4, 32, generator=torch.Generator().manual_seed(1))

    def decoded() -> Tensor:
        with torch.no_grad():
            return victim.model.decoder(states, victim.model.decoder.memory(states, mask))[0]

    victim.model.train()
    assert not torch.allclose(decoded(), decoded())
    victim.model.eval()
    assert torch.equal(decoded(), decoded())


def test_a_target_is_generated_without_the_beginning_of_sequence_from_which_it_starts() -> None:
    victim, kept = encoder_with_decoder(), generator()
    (encoded,) = victim.encode([TEXTS[1]])
    assert victim.encode_targets([TEXTS[1]]) == [encoded.ids[1:]]
    assert encoded.ids[0] == victim.model.config.bos_token_id
    assert kept.encode_targets([TEXTS[1]]) == [kept.encode([TEXTS[1]])[0].ids]


def test_transformers_own_encoder_decoders_get_what_they_got() -> None:
    """Bit for bit, so that the numbers of T5's finished victims stay what they are."""
    victim = generator()
    ids, mask = pad([row.ids for row in victim.encode(TEXTS)], victim.pad_id)
    outputs, _ = pad([row.ids[:12] for row in victim.encode(TEXTS[::-1])], victim.pad_id)
    previous = torch.cat([torch.full((len(ids), 1), 1), outputs[:, :-1]], 1)
    with torch.no_grad():
        plain = victim.model(input_ids=ids, attention_mask=mask, decoder_input_ids=previous).logits
        assert torch.equal(victim.family.output_logits(victim, ids, mask, outputs), plain)
        encoded = victim.model.get_encoder()(input_ids=ids, attention_mask=mask)
        step, cache = victim.family.next_token(victim, ids, mask), None
        for at in range(3):
            output = victim.model(
                encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=previous[:, at : at + 1],
                past_key_values=cache, use_cache=True,
            )  # fmt: skip
            cache = output.past_key_values
            assert torch.equal(step(previous[:, at : at + 1] if at else None), output.logits[:, -1])


@pytest.mark.parametrize(("sizes", "expected"), [({}, (2, 64)), ({"decoder_layers": 3, "decoder_width": 24}, (3, 24))])
def test_the_decoder_has_the_size_of_its_settings_and_is_stored_with_it(
    sizes: dict[str, int], expected: tuple[int, int], tmp_path: Path
) -> None:
    base = base_folder(tmp_path / "base", "encoder")
    recipe = RECIPE.model_copy(update=sizes)
    victim, same, different = (new_victim(recipe, base, "generation", "lexed", None, seed) for seed in (1, 1, 2))
    assert (len(victim.model.decoder.layers), victim.model.decoder.layers[0].linear1.out_features) == expected
    state = victim.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in same.model.state_dict().items())
    differing = {name for name, value in different.model.state_dict().items() if not torch.equal(value, state[name])}
    assert differing == {name for name in state if name.startswith("decoder.") and state[name].std() > 0}
    save_victim(victim, tmp_path / "victim", CARD)
    config = json.loads((tmp_path / "victim/config.json").read_text())
    assert (config["decoder_layers"], config["decoder_ffn_dim"]) == expected
    assert config["architectures"] == ["RobertaForGeneration"]
    loaded = load_victim(tmp_path / "victim")
    assert generate(loaded, inputs(victim)) == generate(victim, inputs(victim))
    external = load_checkpoint(tmp_path / "victim", "generation")
    assert generate(external, inputs(victim)) == generate(victim, inputs(victim))


def inputs(victim: Victim) -> list[list[int]]:
    victim.model.eval()
    return [row.ids for row in victim.encode(TEXTS)]


def test_settings_of_a_decoder_are_written_where_they_are_set() -> None:
    """A victim that generates nothing keeps the settings of its finished jobs."""
    assert not {"decoder_layers", "decoder_width"} & set(RECIPE.model_dump())
    overrides: Any = {"generation": {"decoder_layers": 6, "lr": 1e-3}}
    recipe = CodeBert(architecture="codebert", on=overrides)
    assert recipe.for_head("generation").model_dump()["decoder_layers"] == 6
    assert "decoder_layers" not in recipe.for_head("pair").model_dump()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"decoder_layers": 10**6}, "decoder_layers: 1000000, and there are"),
        ({"decoder_layers": -1}, "decoder_layers: -1, and there are"),
        ({"decoder_layers": 3}, r"do not fit a RobertaForGeneration: missing: decoder\.layers\.2"),
        ({"decoder_layers": 1}, r"unexpected: decoder\.layers\.1"),
        ({"decoder_layers": "many"}, "cannot load the model: TypeError"),
        ({"decoder_ffn_dim": 10**9}, "config.json says 1000000000 x 32"),
        ({"decoder_ffn_dim": "wide"}, "cannot load the model"),
        ({"decoder_ffn_dim": 0}, "config.json says"),
        ({"bos_token_id": 10**6}, "the model cannot be run: IndexError"),
        ({"bos_token_id": "first"}, "cannot load the model"),
    ],
)
def test_a_hostile_folder_is_one_line(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_victim(encoder_with_decoder(), tmp_path, CARD)
    (tmp_path / "SHA256SUMS").unlink()
    config = json.loads((tmp_path / "config.json").read_text()) | keys
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message) as error:
        load_checkpoint(tmp_path, "generation")
    assert "\n" not in str(error.value)


def test_outputs_longer_than_the_positions_are_refused_or_cut(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base", "encoder")
    recipe = RECIPE.model_copy(update={"max_target_length": 33})
    with pytest.raises(UserError, match="this base writes 32 sub-tokens; write max_target_length: 32 or less"):
        new_victim(recipe, base, "generation", "lexed", None, 1)
    assert [name for name, _ in base_problems(base, recipe, ["generation"])] == ["max_target_length"]
    assert not list(base_problems(base, recipe, ["classification"]))
    victim = encoder_with_decoder()
    victim.max_target_length = 1000
    save_victim(victim, tmp_path / "victim", CARD)
    loaded = load_checkpoint(tmp_path / "victim", "generation")
    assert loaded.max_target_length == 32
    assert all(len(output.ids) <= 32 for output in generate(loaded, inputs(loaded)))
