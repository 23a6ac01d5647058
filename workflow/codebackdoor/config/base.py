"""The base of every section of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict

#: What a victim does: one label for one text or for two, a vector for each of two that are compared, or a text.
Head = Literal["classification", "pair", "retrieval", "generation"]
#: What methods call the models that help them (section ``helpers`` of the configuration).
Helper = Literal["infiller", "language_model", "discriminator"]
#: By field: another field, or a fact of the data set, and the values of it with which the field is read.
ReadWhere = Mapping[str, tuple[str, tuple[str | None, ...]]]


class Settings(BaseModel):
    """Immutable settings that refuse unknown keys; each field says what it is, in which unit, and the paper's value."""

    #: Helper models that the method asks for.
    helpers: ClassVar[tuple[Helper, ...]] = ()
    #: What a victim must do for the method to work on it.
    fits: ClassVar[tuple[Head, ...]] = get_args(Head)
    #: Fields that are read only where another field, or the data set's ``head`` or ``source``, has one of the values
    #: named; with no value named, only where it is not null. Captions leave a field out where it is not read.
    read_where: ClassVar[ReadWhere] = {}

    model_config = ConfigDict(extra="forbid", frozen=True)

    def works_on(self) -> tuple[Head, ...]:
        """Heads that the method works on with these settings: those that it fits, where no setting asks for more."""
        return self.fits
