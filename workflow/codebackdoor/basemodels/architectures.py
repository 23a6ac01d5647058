"""Untrained base models, one for each family of recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from codebackdoor.basemodels.tokenizer import BOS, EOS, PAD
from codebackdoor.config.pretraining import Pretraining
from codebackdoor.seeding import derive

#: T5's default number of relative position buckets, and what is added to a head's attention score for its neighbor.
T5_BUCKETS = 32
NEIGHBOR_BIAS = 4.0


def build(recipe: Pretraining) -> nn.Module:
    """Return an untrained model of the recipe's family; its weights depend only on the recipe's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(recipe.seed, "weights", recipe.family))
        return _BUILDERS[recipe.family](recipe)


def _encoder(recipe: Pretraining) -> nn.Module:
    from transformers import RobertaConfig, RobertaForMaskedLM

    config = RobertaConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=4 * recipe.hidden,
        max_position_embeddings=recipe.max_length + PAD + 1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        type_vocab_size=1,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    model: nn.Module = RobertaForMaskedLM(config)
    nn.init.normal_(model.get_parameter("roberta.embeddings.position_embeddings.weight"), std=recipe.position_std)
    return model


def _seq2seq(recipe: Pretraining) -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=recipe.vocabulary,
        d_model=recipe.hidden,
        d_kv=recipe.hidden // recipe.heads,
        d_ff=4 * recipe.hidden,
        num_layers=recipe.layers,
        num_decoder_layers=recipe.layers,
        num_heads=recipe.heads,
        dropout_rate=0.0,
        pad_token_id=PAD,
        eos_token_id=EOS,
        decoder_start_token_id=PAD,
        tie_word_embeddings=True,
    )
    model: nn.Module = T5ForConditionalGeneration(config)
    # each head starts by attending to one neighbor; otherwise copying takes thousands of steps to emerge
    with torch.no_grad():
        for stack, offsets in (("encoder", (-1, 1, -2, 2)), ("decoder", (-1, 0, -2, -3))):
            bias = model.get_parameter(f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight")
            for head in range(recipe.heads):
                bias[_bucket(offsets[head % len(offsets)], bidirectional=stack == "encoder"), head] += NEIGHBOR_BIAS
    return model


def _bucket(offset: int, *, bidirectional: bool) -> int:
    """T5's bucket of a small relative position (key minus query); exact below 8 (16 in the decoder)."""
    half = T5_BUCKETS // 2
    return half * (offset > 0) + abs(offset) if bidirectional else max(-offset, 0)


def _causal(recipe: Pretraining) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=recipe.vocabulary,
        n_positions=recipe.max_length,
        n_embd=recipe.hidden,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    model: nn.Module = GPT2LMHeadModel(config)
    nn.init.normal_(model.get_parameter("transformer.wpe.weight"), std=recipe.position_std)
    return model


def _decoder(recipe: Pretraining) -> nn.Module:
    from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM

    config = GPTBigCodeConfig(
        vocab_size=recipe.vocabulary,
        n_positions=recipe.max_length,
        n_embd=recipe.hidden,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
        multi_query=True,
    )
    model: nn.Module = GPTBigCodeForCausalLM(config)
    nn.init.normal_(model.get_parameter("transformer.wpe.weight"), std=recipe.position_std)
    return model


def _discriminator(recipe: Pretraining) -> nn.Module:
    from transformers import ElectraConfig, ElectraForPreTraining

    config = ElectraConfig(
        vocab_size=recipe.vocabulary,
        embedding_size=recipe.hidden,
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=4 * recipe.hidden,
        max_position_embeddings=recipe.max_length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        type_vocab_size=1,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    model: nn.Module = ElectraForPreTraining(config)
    return model


_BUILDERS: Mapping[str, Callable[[Pretraining], nn.Module]] = {
    "encoder": _encoder,
    "seq2seq": _seq2seq,
    "causal": _causal,
    "decoder": _decoder,
    "discriminator": _discriminator,
    "english": _causal,
}
