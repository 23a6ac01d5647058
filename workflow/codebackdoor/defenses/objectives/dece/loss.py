"""Deceptive cross entropy as a module for any training, and the computation that the study's objective shares with it.

With p = softmax(z), a = alpha^clock, V classes of which y is the label, and y' the smoothed label,

    L = -sum_i y'_i log(a p_i + (1 - a) y'_i),    dL/dp_i = -a y'_i / (a p_i + (1 - a) y'_i) =: -g_i,
    dL/dz_j = p_j (sum_i p_i g_i - g_j).

All classes but the label have the same y'_i = s = epsilon / V, so that with u_i = p_i / s + (1 - a) / a their g_i is
1 / u_i, and their terms of the loss are log(u_i) + log(a s): one array holds both. Loss and gradient are computed
together, a few rows at a time, which stay in the processor's cache; the gradient is the only [N, V] tensor that is
written.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from codebackdoor.errors import UserError
from codebackdoor.types import IGNORED

if TYPE_CHECKING:
    from transformers import TrainerCallback

Reduction = Literal["mean", "sum", "none"]
#: Entries of the rows that are computed at once.
ENTRIES_AT_ONCE = {"cpu": 2**18, "cuda": 2**26}
#: Values whose product is taken before the logarithm, and the range that the product must stay in.
MOST_FACTORS, SMALLEST_PRODUCT, LARGEST_PRODUCT = 8, 1e-30, 1e30


class DeCELoss(nn.Module):
    """Deceptive cross entropy (Yang et al. 2026, section 4), in place of ``torch.nn.CrossEntropyLoss``.

    Parameters
    ----------
    alpha: the model's own distribution has the weight ``alpha ** clock``; 1 is label smoothing alone.
    epsilon: share of a label that is spread over all classes, at least 0 and below 1.
    reduction: ``mean`` and ``sum`` are over the targets that are not ``ignore_index``, ``none`` returns one loss per
        target (0 for an ignored one).
    ignore_index: target of a position that is not scored.
    steps_per_epoch: null: the clock counts epochs, and ``step()`` after each advances it by 1. Otherwise the clock
        counts optimizer steps, and ``step()`` after each advances it by ``1 / steps_per_epoch``.

    The clock starts at 1 and is part of the ``state_dict``.
    """

    def __init__(
        self,
        alpha: float = 0.99,
        epsilon: float = 0.1,
        *,
        reduction: Reduction = "mean",
        ignore_index: int = IGNORED,
        steps_per_epoch: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 < alpha <= 1:
            raise UserError(f"DeCELoss: alpha is {alpha}; write a number above 0, at most 1")
        if not 0 <= epsilon < 1:
            raise UserError(f"DeCELoss: epsilon is {epsilon}; write a number of at least 0, below 1")
        if reduction not in get_args(Reduction):
            raise UserError(f"DeCELoss: reduction is {reduction!r}; write one of {', '.join(get_args(Reduction))}")
        if steps_per_epoch is not None and steps_per_epoch < 1:
            raise UserError(f"DeCELoss: steps_per_epoch is {steps_per_epoch}; write at least 1, or None")
        self.alpha, self.epsilon, self.reduction = alpha, epsilon, reduction
        self.ignore_index, self.steps_per_epoch = ignore_index, steps_per_epoch
        self._clock = 1.0

    @property
    def clock(self) -> float:
        return self._clock

    def set_clock(self, clock: float) -> None:
        """Set the clock: the epoch, from 1; between two epochs, a fraction."""
        if not (math.isfinite(clock) and clock >= 1):
            raise UserError(f"DeCELoss: the clock counts from 1, where the gradient has a bound, not {clock}")
        self._clock = float(clock)

    def step(self) -> None:
        """Advance the clock after an epoch or, with ``steps_per_epoch``, after an optimizer step."""
        self.set_clock(self._clock + 1 / (self.steps_per_epoch or 1))

    def get_extra_state(self) -> dict[str, float]:
        return {"clock": self._clock}

    def set_extra_state(self, state: dict[str, float]) -> None:
        self.set_clock(state["clock"])

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, epsilon={self.epsilon}, reduction={self.reduction!r}, clock={self._clock:g}"

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of logits [..., V] of any precision for targets [...], in float32 or the logits' precision.

        Raises UserError if the shapes do not fit, or for a target that is neither a class nor ``ignore_index``.
        """
        losses = self._computed(logits, targets, self.reduction)
        return losses.view(targets.shape) if self.reduction == "none" else losses

    def trainer_arguments(self, *, shift: bool = False) -> dict[str, Any]:
        """Arguments for a Trainer of transformers: ``Trainer(model, ..., **loss.trainer_arguments())``.

        The loss, and a callback that sets the clock. ``shift``: the logits of a position are for the next label, as in
        a decoder-only model. The loss is the mean over all labels of an optimizer step, for any ``reduction``. Raises
        UserError for an ``ignore_index`` other than -100: the Trainer, which alone knows all labels of a step that is
        accumulated over several batches, counts those that are not -100.
        """
        if self.ignore_index != IGNORED:
            raise UserError(
                f"DeCELoss: ignore_index is {self.ignore_index}, but a Trainer counts the labels that are not {IGNORED}"
                f"; give labels that are not scored the value {IGNORED}, and leave ignore_index out"
            )

        def computed(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
            logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
            if shift:
                logits, labels = logits[..., :-1, :], labels[..., 1:]
            return self._computed(logits, labels.to(logits.device), "mean", num_items_in_batch)

        return {"compute_loss_func": computed, "callbacks": [self.trainer_callback()]}

    def trainer_callback(self) -> TrainerCallback:
        """The callback of ``trainer_arguments``: sets the clock from the Trainer's state, also after a restart."""
        from transformers import TrainerCallback

        class _Clock(TrainerCallback):  # type: ignore[misc]
            def on_epoch_begin(callback, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: N805, ARG002
                if self.steps_per_epoch is None:
                    self.set_clock(1 + int(round(state.epoch or 0.0, 6)))

            def on_step_begin(callback, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: N805, ARG002
                if self.steps_per_epoch is not None:
                    self.set_clock(1 + state.global_step / self.steps_per_epoch)

        return _Clock()

    def _computed(
        self, logits: Tensor, targets: Tensor, reduction: Reduction, divisor: Tensor | int | None = None
    ) -> Tensor:
        if logits.ndim < 2 or targets.shape != logits.shape[:-1]:
            raise UserError(
                f"DeCELoss: logits {list(logits.shape)} and targets {list(targets.shape)} do not fit; pass logits "
                "[..., classes] and one target, the index of a class, for each row of logits"
            )
        rows, flat = logits.flatten(0, -2), targets.flatten()
        if flat.device.type == "cpu":
            _check_targets(flat, rows.shape[1], self.ignore_index)
        return deceptive_cross_entropy(
            rows, flat, self.alpha**self._clock, self.epsilon, reduction, self.ignore_index, divisor
        )


def _check_targets(targets: Tensor, classes: int, ignore_index: int) -> None:
    """On other devices, torch itself refuses a target outside the classes; a check would wait for the device."""
    if targets.is_floating_point() or targets.is_complex():
        raise UserError(f"DeCELoss: targets have the type {targets.dtype}; pass indices of classes, as torch.long")
    outside = targets[(targets != ignore_index) & ((targets < 0) | (targets >= classes))]
    if len(outside):
        raise UserError(
            f"DeCELoss: target {int(outside[0])} is not a class: there are {classes}, counted from 0, and "
            f"ignore_index={ignore_index}"
        )


def deceptive_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    weight: float,
    epsilon: float,
    reduction: Reduction = "mean",
    ignore_index: int = IGNORED,
    divisor: Tensor | int | None = None,
) -> Tensor:
    """Return the loss of logits [N, V] for targets [N]; ``weight`` is alpha^clock, above 0 and at most 1.

    ``divisor``: the mean divides the sum by it instead of by the number of targets that are not ``ignore_index``.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) if weight == 1 else logits
    scored = targets != ignore_index
    if weight == 1:
        how = "sum" if divisor is not None else reduction
        loss = functional.cross_entropy(
            logits, targets, ignore_index=ignore_index, reduction=how, label_smoothing=epsilon
        )
        return loss if divisor is None else loss / divisor
    factors = scored.to(torch.promote_types(logits.dtype, torch.float32))
    if reduction == "mean":
        factors = factors / (scored.sum() if divisor is None else divisor)
    labels = targets.masked_fill(~scored, 0)
    losses: Tensor = _DeceptiveCrossEntropy.apply(  # type: ignore[no-untyped-call]
        logits, labels, factors, weight, epsilon, reduction != "none"
    )
    return losses


class _DeceptiveCrossEntropy(torch.autograd.Function):
    """Loss of each row times its factor, [N], or their sum."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, factors: Tensor, weight: float, epsilon: float, summed: bool
    ) -> Tensor:
        ctx.blend = _Blend(logits.shape[1], weight, epsilon)
        ctx.gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        ctx.save_for_backward(logits, labels, factors)
        losses: Tensor = ctx.blend.losses(logits, labels, factors, ctx.gradient)
        return losses.sum() if summed else losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            # a further pass through a retained graph: the first one's result belongs to the caller
            logits, labels, factors = ctx.saved_tensors
            gradient = torch.empty_like(logits)
            ctx.blend.losses(logits, labels, factors, gradient)
        if upstream.ndim:
            gradient.mul_(upstream[:, None])
        elif upstream.device.type != "cpu" or upstream.item() != 1:
            gradient.mul_(upstream)
        return gradient, None, None, None, None, None


class _Blend:
    """The computation for this number of classes and a blending weight below 1."""

    def __init__(self, classes: int, weight: float, epsilon: float) -> None:
        self._classes = classes
        # below this, gradients vanish in float32, and the loss no longer depends on the weight
        self._weight = max(weight, SMALLEST_PRODUCT)
        self._spread = epsilon / classes
        self._on_label = 1 - epsilon + self._spread
        #: (1 - a) / a, what is added to every p_i / s.
        self._shift = (1 - self._weight) / self._weight
        self._smooths = self._spread > SMALLEST_PRODUCT
        self._factors = _factors(self._shift, 1 / self._spread, classes) if self._smooths else 1

    def losses(self, logits: Tensor, labels: Tensor, factors: Tensor, gradient: Tensor | None) -> Tensor:
        """Return each row's loss times its factor, and fill ``gradient`` with the derivatives of their sum."""
        precision = torch.promote_types(logits.dtype, torch.float32)
        factors = factors.to(precision)
        losses = factors.new_empty(len(logits))
        size = max(1, ENTRIES_AT_ONCE.get(logits.device.type, ENTRIES_AT_ONCE["cuda"]) // self._classes)
        chunk = self._smoothed if self._smooths else self._plain
        for start in range(0, len(logits), size):
            rows = slice(start, start + size)
            p = logits[rows].softmax(-1, dtype=precision)
            into = None if gradient is None else gradient[rows]
            losses[rows] = chunk(p, labels[rows, None], factors[rows, None], into)[:, 0]
        return losses.mul_(factors)

    def _of_label(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """The label's term of the loss and its g_y, for its probability [R, 1]."""
        blended = self._weight * p + (1 - self._weight) * self._on_label
        return -self._on_label * blended.log(), self._on_label * self._weight / blended

    def _plain(self, p: Tensor, labels: Tensor, factors: Tensor, gradient: Tensor | None) -> Tensor:
        """Losses [R, 1] without smoothing: the gradient is that of cross entropy times p_y g_y."""
        p_label = p.gather(1, labels)
        losses, slope = self._of_label(p_label)
        if gradient is not None:
            p.scatter_add_(1, labels, torch.full_like(p_label, -1))
            torch.mul(p, p_label * slope * factors, out=gradient)
        return losses

    def _smoothed(self, p: Tensor, labels: Tensor, factors: Tensor, gradient: Tensor | None) -> Tensor:
        p_label = p.gather(1, labels)
        losses, slope = self._of_label(p_label)
        u = torch.add(p.new_tensor(self._shift), p, alpha=1 / self._spread)
        everywhere = _sum_log(u, self._factors) - u.gather(1, labels).log()
        losses -= self._spread * (everywhere + (self._classes - 1) * math.log(self._spread * self._weight))
        if gradient is not None:
            slopes = u.reciprocal_().scatter_(1, labels, slope)
            mean = torch.linalg.vecdot(p, slopes)[:, None]
            torch.mul(p.mul_(-factors), slopes.sub_(mean), out=gradient)
        return losses


def _factors(smallest: float, scale: float, classes: int) -> int:
    """How many values of p_i scale + smallest can be multiplied: a power of two, so that the product is in range.

    The probabilities of a row add up to 1 at most, so the largest product has equal ones.
    """
    count = 1
    while (
        2 * count <= min(MOST_FACTORS, classes)
        and smallest ** (2 * count) > SMALLEST_PRODUCT
        and (scale / (2 * count) + smallest) ** (2 * count) < LARGEST_PRODUCT
    ):
        count *= 2
    return count


def _sum_log(u: Tensor, factors: int) -> Tensor:
    """Sum of the logarithms of each row of u [R, V], [R, 1], as that of fewer logarithms of products."""
    rest = torch.zeros_like(u[:, :1])
    while factors > 1:
        half = u.shape[1] // 2
        if u.shape[1] % 2:
            rest = rest + u[:, -1:].log()
        u = u[:, :half] * u[:, half : 2 * half]
        factors //= 2
    return rest + u.log().sum(1, keepdim=True)
