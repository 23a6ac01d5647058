"""The families of models that a victim can belong to: one file each, and one line here."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from codebackdoor.config.base import Head
from codebackdoor.errors import UserError
from codebackdoor.victims.families.base import Family, ModelClass
from codebackdoor.victims.families.codegen import CodeGenFamily
from codebackdoor.victims.families.gpt_bigcode import GPTBigCode
from codebackdoor.victims.families.llama import Llama
from codebackdoor.victims.families.roberta import Roberta
from codebackdoor.victims.families.t5 import T5

__all__ = ["FAMILIES", "Family", "ModelClass", "family_of", "model_class", "named_classes"]

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        Roberta("roberta"),
        T5("t5"),
        GPTBigCode("gpt_bigcode"),
        CodeGenFamily("codegen"),
        Llama("llama"),
    )
}


def family_of(model_type: str) -> Family:
    """The family of a ``model_type``; the default family if no file of this folder defines it."""
    return FAMILIES.get(model_type) or Family(model_type)


def model_class(model_type: str, head: Head, where: str | Path) -> ModelClass:
    """The model class of a victim; UserError, naming ``where``, if there is none."""
    if (cls := family_of(model_type).model_class(head)) is not None:
        return cls
    raise UserError(f"{where}: no victim of type {model_type!r} with a {head} head; choose another base model or task")


def named_classes(model_type: str | None = None) -> list[tuple[Head, ModelClass]]:
    """Heads and classes of all families that have a file, or of one ``model_type``."""
    families = [family for name, family in FAMILIES.items() if model_type in (None, name)]
    pairs = ((head, family.model_class(head)) for family in families for head in get_args(Head))
    return [(head, cls) for head, cls in pairs if cls is not None]
