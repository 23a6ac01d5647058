"""The base of every section of the configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from codebackdoor.types import Field

if TYPE_CHECKING:
    from codebackdoor.costs.work import Work

#: What a victim predicts: a label for one text or for two, the similarity of two texts, or a text (``heads.HEADS``).
Head = Literal["classification", "pair", "retrieval", "generation"]
#: Names of the helper models of methods (section ``helpers`` of the configuration).
Helper = Literal["infiller", "language_model", "english_model", "discriminator", "paraphraser"]
#: By field: another field (or a fact of the data set), and the values of the latter for which the field is read.
ReadWhere = Mapping[str, tuple[str, tuple[str | None, ...]]]


#: Fields that distinguish the members of a union.
TAGS = ("method", "task", "architecture")
#: Largest integer of any setting; a larger one is a mistake and would need unlimited memory or time.
LARGEST = 10**9


@dataclass(frozen=True, slots=True)
class Reference:
    """The paper that a method comes from."""

    authors: str
    year: int
    title: str
    url: str


class Settings(BaseModel):
    """Immutable settings that refuse unknown keys; each field states its meaning, its unit and the paper's value."""

    #: The method's or model's name in tables and figures.
    label: ClassVar[str] = ""
    #: The paper that the method comes from.
    reference: ClassVar[Reference | None] = None
    #: Helper models that the method needs.
    helpers: ClassVar[tuple[Helper, ...]] = ()
    #: Heads of victims that the method works on.
    fits: ClassVar[tuple[Head, ...]] = get_args(Head)
    #: Fields that an attack or a defense changes or judges: a victim must read one of them.
    acts_on: ClassVar[tuple[Field, ...]] = ("code",)
    #: Fields that are read only if another field, or the data set's ``head`` or ``source``, has one of these values (no
    #: values: only if it is not null). Captions leave out fields that are not read.
    read_where: ClassVar[ReadWhere] = {}

    #: Those of them that may have a value although they are not read: an overlay that changes the other field, such as
    #: the ``source`` of a data set, inherits them.
    may_idle: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _reject_booleans_as_numbers(cls, raw: Any) -> Any:
        """Turn booleans in numeric fields into text, which pydantic refuses; it would accept true as 1."""
        if not isinstance(raw, Mapping):
            return raw
        numbers = {name for name, field in cls.model_fields.items() if _is_number(field.annotation)}
        return {name: worded(value) if name in numbers else value for name, value in raw.items()}

    @field_validator("*")
    @classmethod
    def _limit_size(cls, value: Any) -> Any:
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, int) and abs(number) > LARGEST for number in numbers):
            raise ValueError(f"a number beyond the limit of {LARGEST}; write a smaller one")
        return value

    @model_validator(mode="after")
    def _everything_is_read(self) -> Self:
        """Refuse values of fields that these settings do not read, except for defaults and fields of ``may_idle``."""
        for name, (condition, values) in self.read_where.items():
            field = type(self).model_fields.get(name)
            if field is None or condition not in type(self).model_fields or name in self.may_idle:
                continue
            value, actual = getattr(self, name), getattr(self, condition)
            is_read = actual in values if values else actual is not None
            if not is_read and value != field.get_default(call_default_factory=True):
                required = " or ".join(map(_in_yaml, values)) if values else "a value"
                raise ValueError(
                    f"{name}: not read with `{condition}: {_in_yaml(actual)}`; leave it out, or write {required} as "
                    f"`{condition}`"
                )
        return self

    def works_on(self) -> tuple[Head, ...]:
        """Heads that the method works on with these settings: those of ``fits``, or fewer if a setting requires it."""
        return self.fits

    def unread_with(self, head: Head) -> frozenset[str]:
        """Fields that are not read for victims with this head."""
        return frozenset(
            name for name, (condition, heads) in self.read_where.items() if condition == "head" and head not in heads
        )

    def work(self, job: Any) -> Work | None:  # noqa: ARG002
        """The work that the method adds to a job (``costs.work``); None if it is not priced."""
        return None


def _is_number(annotation: Any) -> bool:
    """Whether a field or its lists may contain numbers but not booleans."""
    kinds = set(_kinds(annotation))
    return bool(kinds & {int, float}) and bool not in kinds


def _kinds(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for argument in get_args(annotation):
        yield from _kinds(argument)


def worded(value: Any) -> Any:
    """The value with booleans, also in lists, replaced by YAML's words for them."""
    if isinstance(value, list | tuple):
        return [worded(item) for item in value]
    return str(value).lower() if isinstance(value, bool) else value


def _in_yaml(value: Any) -> str:
    """A plain value as YAML writes it."""
    return "null" if value is None else str(worded(value))


def models_in(kind: Any) -> Iterator[type[BaseModel]]:
    """The models in a type: the type itself, members of a union, values of a mapping, items of a sequence."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for argument in get_args(kind):
        yield from models_in(argument)


def choices_of(kind: Any) -> Iterator[str]:
    """The words that a field may contain, at every depth of its type, but not those of the models in it."""
    for argument in get_args(kind):
        if isinstance(argument, str):
            yield argument
        else:
            yield from choices_of(argument)


def tag_of(model: type[BaseModel]) -> str | None:
    """The value of the field that distinguishes the members of a union; None for a model that is in no union."""
    for name in TAGS:
        field = model.model_fields.get(name)
        if field is not None:
            return str(get_args(field.annotation)[0])
    return None
