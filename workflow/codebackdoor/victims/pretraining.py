"""Pretraining of the small local base models on the corpus's training split.

Five families, one loop: masked language modelling for the encoder (also CodePurify's infiller), denoising of the
whole sequence for the encoder-decoder, next-token prediction for the causal model (ONION's) and the decoder
(StarCoder's class), replaced-token detection for the discriminator (AttDef's). Weight matrices learn by Muon and
everything else by AdamW; no dropout. Functions of the validation and test splits are never seen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from codebackdoor.config.pretraining import Pretraining
from codebackdoor.errors import UserError
from codebackdoor.seeding import derive, numpy_generator

PAD, BOS, EOS, UNK, MASK = 1, 0, 2, 3, 4
#: Ids below this one are specials: never masked, never drawn as noise.
FIRST_ORDINARY = 5
IGNORED = -100
#: T5's default number of relative position buckets, and what is added to the attention score of a head's neighbour.
T5_BUCKETS = 32
NEIGHBOUR_BIAS = 4.0

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """``ids`` and ``labels`` are [B, T] (seq2seq: [B, S] and [B, T]); labels are IGNORED where nothing is asked."""

    ids: Tensor
    labels: Tensor


def build(recipe: Pretraining) -> nn.Module:
    """Return a freshly initialised model of the recipe's family; its weights depend on the recipe's seed only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(recipe.seed, "weights", recipe.family))
        return _BUILD[recipe.family](recipe)


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
    # each head starts out looking at one neighbour; without, copying takes thousands of steps to appear
    with torch.no_grad():
        for stack, offsets in (("encoder", (-1, 1, -2, 2)), ("decoder", (-1, 0, -2, -3))):
            bias = model.get_parameter(f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight")
            for head in range(recipe.heads):
                bias[_bucket(offsets[head % len(offsets)], bidirectional=stack == "encoder"), head] += NEIGHBOUR_BIAS
    return model


def _bucket(offset: int, *, bidirectional: bool) -> int:
    """T5's bucket of a small relative position (key minus query), exact below 8 (16 for the decoder)."""
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


_BUILD: dict[str, Callable[[Pretraining], nn.Module]] = {
    "encoder": _encoder,
    "seq2seq": _seq2seq,
    "causal": _causal,
    "decoder": _decoder,
    "discriminator": _discriminator,
}


def loss_of(model: Any, batch: Batch, family: str) -> Tensor:
    """Mean cross entropy over the asked positions; the vocabulary is only scored there."""
    asked = batch.labels != IGNORED
    if family == "discriminator":
        logits = model(input_ids=batch.ids, attention_mask=batch.ids != PAD).logits
        return nn.functional.binary_cross_entropy_with_logits(logits[asked].float(), batch.labels[asked].float())
    if family == "seq2seq":
        return torch.as_tensor(model(input_ids=batch.ids, attention_mask=batch.ids != PAD, labels=batch.labels).loss)
    base = model.roberta if family == "encoder" else model.transformer
    hidden = base(input_ids=batch.ids, attention_mask=batch.ids != PAD).last_hidden_state
    return nn.functional.cross_entropy(model.lm_head(hidden[asked]), batch.labels[asked])


def batches(
    rows: Sequence[Rows], recipe: Pretraining, generator: np.random.Generator, marks: NDArray[np.bool_]
) -> Iterator[Batch]:
    """Yield batches for ever: rows of like length together, in random order, noise drawn anew each time."""
    lengths = np.array([min(len(row) + _surplus(recipe.family), recipe.max_length) for row in rows])
    while True:
        # jitter keeps rows from always meeting the same neighbours
        order = np.argsort(lengths + generator.uniform(0, 4, len(rows)), kind="stable")
        bounds: list[NDArray[np.int64]] = []
        start = 0
        while start < len(order):
            longest = int(lengths[order[start : start + recipe.batch_tokens // 8]].max(initial=1))
            size = max(1, recipe.batch_tokens // longest)
            longest = int(lengths[order[start : start + size]].max())
            size = max(1, recipe.batch_tokens // longest)
            bounds.append(order[start : start + size])
            start += size
        for index in generator.permutation(len(bounds)):
            yield collate([rows[row] for row in bounds[index]], recipe, generator, marks)


def _surplus(family: str) -> int:
    return 1 if family == "seq2seq" else 2


def collate(
    rows: Sequence[Rows], recipe: Pretraining, generator: np.random.Generator, marks: NDArray[np.bool_]
) -> Batch:
    """Crop, frame, pad and corrupt rows of bare sub-token ids."""
    room = recipe.max_length - _surplus(recipe.family)
    cropped = []
    for row in rows:
        start = int(generator.integers(0, max(len(row) - room, 0) + 1))
        cropped.append(row[start : start + room])
    if recipe.family == "seq2seq":
        return _denoising(cropped, recipe, generator, marks)
    framed = [np.concatenate(([BOS], row, [EOS])) for row in cropped]
    ids = padded(framed, PAD)
    if recipe.family in ("causal", "decoder"):
        labels = padded([np.append(row[1:], IGNORED) for row in framed], IGNORED)
        return Batch(torch.from_numpy(ids), torch.from_numpy(labels))
    corrupt = (generator.random(ids.shape) < recipe.noise) & (ids >= FIRST_ORDINARY)
    labels = np.where(corrupt, ids, IGNORED)
    if recipe.family == "discriminator":
        return Batch(torch.from_numpy(np.where(corrupt, MASK, ids)), torch.from_numpy(labels))
    fate = generator.random(ids.shape)
    noisy = np.where(corrupt & (fate < 0.8), MASK, ids)
    drawn = generator.integers(FIRST_ORDINARY, recipe.vocabulary, ids.shape)
    noisy = np.where(corrupt & (fate >= 0.8) & (fate < 0.9), drawn, noisy)
    return Batch(torch.from_numpy(noisy), torch.from_numpy(labels))


def _denoising(
    rows: Sequence[Rows], recipe: Pretraining, generator: np.random.Generator, marks: NDArray[np.bool_]
) -> Batch:
    """Restore the whole row from a corrupted copy: a third of the noise each is a mask, a token of the same row,
    and a deletion, so that restoring needs both copying and knowing what belongs where."""
    sources = []
    for row in rows:
        corrupt = (generator.random(len(row)) < recipe.noise * generator.random()) & ~marks[row]
        fate = generator.random(len(row))
        drawn = row[generator.integers(0, len(row), len(row))]
        source = np.where(corrupt & (fate < 1 / 3), MASK, row)
        source = np.where(corrupt & (fate >= 1 / 3) & (fate < 2 / 3) & ~marks[drawn], drawn, source)
        sources.append(np.append(source[~(corrupt & (fate >= 2 / 3))], EOS))
    targets = [np.append(row, EOS) for row in rows]
    return Batch(torch.from_numpy(padded(sources, PAD)), torch.from_numpy(padded(targets, IGNORED)))


def padded(rows: Sequence[Rows], value: int) -> Rows:
    """Return rows [B, T] filled up on the right with ``value``."""
    filled = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for index, row in enumerate(rows):
        filled[index, : len(row)] = row
    return filled


def optimisers(model: nn.Module, recipe: Pretraining) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings, heads, norms and biases."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inside = any(part in name for part in (".layer.", ".block.", ".h.")) and "relative" not in name
        # GPT-2 stores its matrices transposed, which Muon's orthogonal step does not mind
        (matrices if inside and parameter.ndim == 2 and "bias" not in name else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=recipe.matrix_lr, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(others, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def rate_at(step: int, recipe: Pretraining) -> float:
    """Factor of the learning rates: linear rise, constant, linear fall to zero."""
    rise = max(1.0, recipe.warmup * recipe.steps)
    fall = max(1.0, recipe.decay * recipe.steps)
    return min((step + 1) / rise, 1.0, (recipe.steps - step) / fall)


def pretrain(
    rows: Sequence[Rows],
    held_out: Sequence[Rows],
    recipe: Pretraining,
    marks: NDArray[np.bool_],
    every: int = 200,
    replacer: Any = None,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train a fresh model; return it and its curve.

    Parameters
    ----------
    rows, held_out: bare sub-token ids of the training and the validation functions.
    marks: [V] bool, true for ids that noise must leave alone (layout marks and specials).
    every: steps between two points of the curve (step, training loss, seconds; held-out loss at the end).
    replacer: what fills masked sub-tokens for a discriminator, and where that starts (``replacement.Replacer``).
    """
    model = build(recipe).train()
    if replacer is not None:
        replacer.start(model)
    generator = numpy_generator(recipe.seed, "pretrain", recipe.family)
    steppers = optimisers(model, recipe)
    curve: list[dict[str, float]] = []
    running, begun = 0.0, time.monotonic()
    stream = batches(rows, recipe, generator, marks)
    for step in tqdm(range(recipe.steps), desc=f"pretrain {recipe.family}", unit="step", disable=None):
        factor = rate_at(step, recipe)
        for stepper, peak in zip(steppers, (recipe.matrix_lr, recipe.lr), strict=True):
            for group in stepper.param_groups:
                group["lr"] = peak * factor
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            batch = next(stream)
            loss = loss_of(model, batch if replacer is None else replacer(batch, generator), recipe.family)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper in steppers:
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        running += loss.item()
        if not math.isfinite(running):
            raise UserError(f"the loss is not finite in step {step + 1}: pretraining diverges; lower lr and matrix_lr")
        if (step + 1) % every == 0:
            curve.append({"step": step + 1, "loss": round(running / every, 4)})
            tqdm.write(f"{step + 1} loss {running / every:.4f} {time.monotonic() - begun:.0f}s")
            running = 0.0
    curve.append({"step": recipe.steps, **evaluate(model, held_out, recipe, marks, replacer)})
    return model.eval(), curve


@torch.no_grad()
def evaluate(
    model: nn.Module, rows: Sequence[Rows], recipe: Pretraining, marks: NDArray[np.bool_], replacer: Any = None
) -> dict[str, float]:
    """Mean loss over held-out rows (at most 1024), with noise drawn from a seed of its own, as ``held_out``.

    A discriminator's has beside it what ``Replacer.quality`` says.
    """
    generator = numpy_generator(recipe.seed, "evaluate", recipe.family)
    total, count = 0.0, 0
    seen = []
    for start in range(0, min(len(rows), 1024), 64):
        batch = collate(rows[start : start + 64], recipe, generator, marks)
        if replacer is not None:
            batch = replacer(batch, generator)
            seen.append(batch)
        asked = int((batch.labels != IGNORED).sum())
        total += loss_of(model.eval(), batch, recipe.family).item() * asked
        count += asked
    return {
        "held_out": round(total / max(count, 1), 4),
        **({} if replacer is None else replacer.quality(model, seen)),
    }


def encode(bpe: Any, texts: Sequence[str]) -> list[Rows]:
    """Bare sub-token ids of each text (no specials)."""
    return [np.array(found.ids, dtype=np.int64) for found in bpe.encode_batch(list(texts), add_special_tokens=False)]
