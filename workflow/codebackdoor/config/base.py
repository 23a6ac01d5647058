"""The base of every section of the configuration."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

Head = Literal["classification", "generation"]


class Settings(BaseModel):
    """Immutable settings that refuse unknown keys; each field says what it is, in which unit, and the paper's value."""

    #: Helper models that the method asks for, by name (section ``helpers`` of the configuration).
    helpers: ClassVar[tuple[str, ...]] = ()
    #: What a victim must do for the method to work on it.
    fits: ClassVar[tuple[Head, ...]] = ("classification", "generation")

    model_config = ConfigDict(extra="forbid", frozen=True)
