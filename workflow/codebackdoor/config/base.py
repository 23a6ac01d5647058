"""The base of every section of the configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

#: What a victim does: one label for one text or for two, a vector for each of two that are compared, or a text.
Head = Literal["classification", "pair", "retrieval", "generation"]
#: What methods call the models that help them (section ``helpers`` of the configuration).
Helper = Literal["infiller", "language_model", "discriminator"]
#: By field: another field, or a fact of the data set, and the values of it with which the field is read.
ReadWhere = Mapping[str, tuple[str, tuple[str | None, ...]]]


#: Fields that tell the members of a union apart.
TAGS = ("method", "task", "architecture")
#: Largest whole number of any setting; what is larger is a slip, and would be memory or time without end.
LARGEST = 10**9


class Settings(BaseModel):
    """Immutable settings that refuse unknown keys; each field says what it is, in which unit, and the paper's value."""

    #: Helper models that the method asks for.
    helpers: ClassVar[tuple[Helper, ...]] = ()
    #: What a victim must do for the method to work on it.
    fits: ClassVar[tuple[Head, ...]] = get_args(Head)
    #: Fields that are read only where another field, or the data set's ``head`` or ``source``, has one of the values
    #: named; with no value named, only where it is not null. Captions leave a field out where it is not read.
    read_where: ClassVar[ReadWhere] = {}

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, raw: Any) -> Any:
        """Where a number is declared, true is read as a text that is none; pydantic would take it for 1."""
        if not isinstance(raw, Mapping):
            return raw
        numbers = {name for name, field in cls.model_fields.items() if _is_number(field.annotation)}
        return {name: worded(value) if name in numbers else value for name, value in raw.items()}

    @field_validator("*")
    @classmethod
    def _of_a_size(cls, value: Any) -> Any:
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, int) and abs(number) > LARGEST for number in numbers):
            raise ValueError(f"a number beyond {LARGEST}; write a smaller one")
        return value

    def works_on(self) -> tuple[Head, ...]:
        """Heads that the method works on with these settings: those that it fits, where no setting asks for more."""
        return self.fits


def _is_number(annotation: Any) -> bool:
    """Whether numbers, and no truth values, may stand in a field or in its lists."""
    kinds = set(_kinds(annotation))
    return bool(kinds & {int, float}) and bool not in kinds


def _kinds(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for argument in get_args(annotation):
        yield from _kinds(argument)


def worded(value: Any) -> Any:
    """The value with YAML's words for truth values in their place, in lists too."""
    if isinstance(value, list | tuple):
        return [worded(one) for one in value]
    return str(value).lower() if isinstance(value, bool) else value


def models_in(kind: Any) -> Iterator[type[BaseModel]]:
    """The models in a type: itself, the members of a union, the values of a mapping, the items of a sequence."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for argument in get_args(kind):
        yield from models_in(argument)


def tag_of(model: type[BaseModel]) -> str | None:
    """The value of the field that tells a union's members apart; None for a model that is in no union."""
    for name in TAGS:
        field = model.model_fields.get(name)
        if field is not None:
            return str(get_args(field.annotation)[0])
    return None
