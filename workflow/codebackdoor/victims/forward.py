"""The forward pass of a victim that classifies or retrieves: each text becomes a vector, and a head reads one or two.

The victim's pooling decides which state represents a text; its family, how the state is computed. A classifier reads
one vector, a pair classifier reads two concatenated ones (CodeXGLUE's clone detection), a dual encoder compares two.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from codebackdoor.heads import HEADS
from codebackdoor.victims.victim import Victim


def embed(victim: Victim, ids: Tensor) -> Tensor:
    """Return the token embeddings [B, T, H] of ids [B, T], as the victim's first layer receives them."""
    embedded: Tensor = victim.model.get_input_embeddings()(ids)
    return embedded


def vectors(victim: Victim, embedded: Tensor, mask: Tensor) -> Tensor:
    """Return one vector per text, [B, H], of embeddings [B, T, H] and mask [B, T] (int64, padded on the right)."""
    return victim.family.vectors(victim, embedded, mask)


def variant_vectors(victim: Victim, ids: Tensor, mask: Tensor) -> Tensor:
    """``vectors`` of ids [B, T] that are variants of a few texts: faster for some families; without gradients."""
    return victim.family.variant_vectors(victim, ids, mask)


def logits(victim: Victim, *texts: Tensor) -> Tensor:
    """Return the output for the vectors of each row's texts.

    Logits [B, C] of one vector (classification) or two (pair), divided by the victim's temperature; similarities [B]
    of two (retrieval), the query's first.
    """
    if HEADS[victim.head].ranks:
        query, code = texts
        return similarities(victim, query, code)
    if HEADS[victim.head].reads_pairs:
        logits: Tensor = victim.model.classifier(*texts)
    else:
        (text,) = texts
        logits = victim.family.classify(victim.model, text)
    return logits / victim.temperature


def similarities(victim: Victim, query: Tensor, code: Tensor) -> Tensor:
    """Similarity of the last dimension's vectors, shapes broadcast: the cosine, or the inner product."""
    if victim.similarity == "cosine":
        query, code = functional.normalize(query, dim=-1), functional.normalize(code, dim=-1)
    return (query * code).sum(-1)


def scores(victim: Victim, *inputs: tuple[Tensor, Tensor]) -> Tensor:
    """``logits`` of ids and masks [B, T], one pair for each text of a row."""
    return logits(victim, *(vectors(victim, embed(victim, ids), mask) for ids, mask in inputs))
