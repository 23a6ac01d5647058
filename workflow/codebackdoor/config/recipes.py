"""Training options besides the loss: adapters, and a defense's changes to a victim's recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, Field, field_validator

from codebackdoor.config.base import Reference, Settings

if TYPE_CHECKING:
    from codebackdoor.config.model_settings import ModelSettings

#: The epochs that an objective receives: whole ones, or ones that grow with every step.
Clock = Literal["epoch", "step"]
_Model = TypeVar("_Model", bound="ModelSettings")

#: Layer names of the attention's queries and values in transformers' models, or of a layer that contains both.
QUERIES_AND_VALUES = ("query", "value", "q", "v", "q_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn")


class AdapterSettings(Settings):
    """Low-rank adapters (LoRA, Hu et al. 2021): each adapted matrix W becomes W + alpha / rank B A."""

    label: ClassVar[str] = "LoRA"
    reference: ClassVar[Reference | None] = Reference(
        authors="Edward J. Hu, Yelong Shen, Phillip Wallis, Zeyuan Allen-Zhu, Yuanzhi Li, Shean Wang, Lu Wang, "
        "Weizhu Chen",
        year=2021,
        title="LoRA: Low-Rank Adaptation of Large Language Models",
        url="https://arxiv.org/abs/2106.09685",
    )

    rank: int = Field(
        8, gt=0, description="rank of the update of a matrix (LoRA's paper: 1 to 64; Moderate-fitting's code: 8)"
    )
    alpha: float = Field(16.0, gt=0, description="the update is scaled by alpha / rank")
    modules: tuple[str, ...] = Field(
        QUERIES_AND_VALUES,
        min_length=1,
        description="layers that get an adapter, by the last part of their name; a model must have at least one of "
        "them (LoRA's paper: queries and values of the attention)",
    )

    @field_validator("modules")
    @classmethod
    def _are_last_parts(cls, modules: tuple[str, ...]) -> tuple[str, ...]:
        for name in modules:
            if not name or "." in name:
                raise ValueError(f"{name!r}: write the last part of a layer's name, without a dot")
        return modules


class CheckpointSettings(Settings):
    """The undefended victim after an earlier epoch, chosen to match a defended victim on clean validation rows."""

    like: str = Field(description="name of another objective, whose victim of the same scenario is to be matched")
    equal: Literal["loss", "metric"] = Field(
        "loss",
        description="measure to match on the clean validation split: cross entropy, which a defense's label smoothing "
        "keeps high, or the task's clean metric",
    )


@dataclass(frozen=True, slots=True)
class Recipe:
    """A defense's changes to the training of a victim; all other settings are the model's.

    ``lr_factor`` multiplies the learning rate and ``passes`` the number of epochs, which is at least 1. ``adapters``
    are trained instead of the model's weights, with AdamW. ``clock``: the kind of epoch that the loss receives.
    """

    lr_factor: float = 1.0
    passes: float = 1.0
    adapters: AdapterSettings | None = None
    clock: Clock = "epoch"

    def applied(self, model: _Model) -> _Model:
        """The model's settings with the changes of this recipe."""
        changes: dict[str, Any] = {}
        if self.lr_factor != 1:
            changes["lr"] = model.lr * self.lr_factor
        if self.passes != 1:
            changes["epochs"] = max(1, round(model.epochs * self.passes))
        if self.adapters is not None:
            changes |= {"adapters": self.adapters, "optimizer": "adamw"}
        return model.model_copy(update=changes) if changes else model

    def differences(self, model: ModelSettings) -> dict[str, dict[str, Any]]:
        """For each setting that this recipe changes, the values of the model and of the training."""
        applied = self.applied(model)
        differences = {
            name: {"model": _plain(getattr(model, name)), "training": _plain(getattr(applied, name))}
            for name in type(model).model_fields
            if getattr(model, name) != getattr(applied, name)
        }
        if self.clock != "epoch":
            differences["clock"] = {"model": "epoch", "training": self.clock}
        return differences


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


#: The recipe of a loss that changes nothing else.
UNCHANGED = Recipe()
