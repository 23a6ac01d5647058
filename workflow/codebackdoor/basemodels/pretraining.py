"""Pretraining of the small local base models on the corpus's training split.

Six families share one loop: masked language modeling for the encoder (also CodePurify's infiller), denoising of the
whole sequence for the encoder-decoder, next-token prediction for the causal model (ONION's), the decoder (StarCoder's
class) and the causal model of English (ONION's on natural language), replaced-token detection for the discriminator
(AttDef's). Muon trains the weight matrices and AdamW everything else; there is no dropout. Texts of the validation and
test splits are never used.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from codebackdoor.basemodels.architectures import build
from codebackdoor.basemodels.noise import Batch, IdArray, batches, collate
from codebackdoor.basemodels.tokenizer import PAD
from codebackdoor.config.pretraining import Pretraining
from codebackdoor.errors import UserError
from codebackdoor.seeding import numpy_generator
from codebackdoor.types import IGNORED


def batch_loss(model: Any, batch: Batch, family: str) -> Tensor:
    """Mean cross entropy over the labeled positions; the vocabulary is scored only there."""
    labeled = batch.labels != IGNORED
    if family == "discriminator":
        logits = model(input_ids=batch.ids, attention_mask=batch.ids != PAD).logits
        return nn.functional.binary_cross_entropy_with_logits(logits[labeled].float(), batch.labels[labeled].float())
    if family == "seq2seq":
        return torch.as_tensor(model(input_ids=batch.ids, attention_mask=batch.ids != PAD, labels=batch.labels).loss)
    hidden = model.base_model(input_ids=batch.ids, attention_mask=batch.ids != PAD).last_hidden_state
    return nn.functional.cross_entropy(model.lm_head(hidden[labeled]), batch.labels[labeled])


def optimizers(model: nn.Module, recipe: Pretraining) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings, heads, norms and biases."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inside = any(part in name for part in (".layer.", ".block.", ".h.")) and "relative" not in name
        # GPT-2 stores its matrices transposed, which makes no difference to Muon's orthogonal step
        (matrices if inside and parameter.ndim == 2 and "bias" not in name else rest).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=recipe.matrix_lr, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def rate_at(step: int, recipe: Pretraining) -> float:
    """Factor of the learning rates: linear rise, constant, linear fall to zero."""
    rise = max(1.0, recipe.warmup * recipe.steps)
    fall = max(1.0, recipe.decay * recipe.steps)
    return min((step + 1) / rise, 1.0, (recipe.steps - step) / fall)


def pretrain(
    rows: Sequence[IdArray],
    held_out: Sequence[IdArray],
    recipe: Pretraining,
    marks: NDArray[np.bool_],
    log_every: int = 200,
    replacer: Any = None,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train a new model; return it and its training curve.

    Parameters
    ----------
    rows, held_out: sub-token ids of the training and the validation functions, without special tokens.
    marks: [V] bool, true for layout marks and special tokens; the noise of seq2seq leaves them alone.
    log_every: steps between two points of the curve (step, training loss; held-out loss at the end).
    replacer: fills masked sub-tokens for a discriminator and provides its initial weights
        (``replaced_tokens.Replacer``).
    """
    model = build(recipe).train()
    if replacer is not None:
        replacer.initialize(model)
    generator = numpy_generator(recipe.seed, "pretrain", recipe.family)
    algorithms = optimizers(model, recipe)
    curve: list[dict[str, float]] = []
    running, started = 0.0, time.monotonic()
    stream = batches(rows, recipe, generator, marks)
    for step in tqdm(range(recipe.steps), desc=f"pretrain {recipe.family}", unit="step", disable=None):
        factor = rate_at(step, recipe)
        for algorithm, peak in zip(algorithms, (recipe.matrix_lr, recipe.lr), strict=True):
            for group in algorithm.param_groups:
                group["lr"] = peak * factor
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            batch = next(stream)
            loss = batch_loss(model, batch if replacer is None else replacer(batch, generator), recipe.family)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for algorithm in algorithms:
            algorithm.step()
            algorithm.zero_grad(set_to_none=True)
        running += loss.item()
        if not math.isfinite(running):
            raise UserError(f"the loss is not finite in step {step + 1}: pretraining diverges; lower lr and matrix_lr")
        if (step + 1) % log_every == 0:
            curve.append({"step": step + 1, "loss": round(running / log_every, 4)})
            tqdm.write(f"{step + 1} loss {running / log_every:.4f} {time.monotonic() - started:.0f}s")
            running = 0.0
    curve.append({"step": recipe.steps, **evaluate(model, held_out, recipe, marks, replacer)})
    return model.eval(), curve


@torch.no_grad()
def evaluate(
    model: nn.Module, rows: Sequence[IdArray], recipe: Pretraining, marks: NDArray[np.bool_], replacer: Any = None
) -> dict[str, float]:
    """Mean loss ``held_out`` over at most 1024 held-out rows, whose noise has a separate seed.

    For a discriminator, also the measures of ``Replacer.quality``.
    """
    generator = numpy_generator(recipe.seed, "evaluate", recipe.family)
    total, labeled = 0.0, 0
    evaluated = []
    for start in range(0, min(len(rows), 1024), 64):
        batch = collate(rows[start : start + 64], recipe, generator, marks)
        if replacer is not None:
            batch = replacer(batch, generator)
            evaluated.append(batch)
        labels = int((batch.labels != IGNORED).sum())
        total += batch_loss(model.eval(), batch, recipe.family).item() * labels
        labeled += labels
    return {
        "held_out": round(total / max(labeled, 1), 4),
        **({} if replacer is None else replacer.quality(model, evaluated)),
    }
