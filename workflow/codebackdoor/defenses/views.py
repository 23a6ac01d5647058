"""What each kind of defense is allowed to see.

No view holds a trigger, position, target, rate, row status or test label. The classes are kept apart from the function
that fills them, so that a defense that never sees a victim does not depend on the code of victims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from codebackdoor.types import Example, Field, Language, TextForm

if TYPE_CHECKING:
    from pathlib import Path

    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.victims.victim import Victim


@dataclass(frozen=True, slots=True)
class TextView:
    """Everything that a defender sees who does not look at the victim."""

    task: str
    language: Language
    text_form: TextForm
    clean: tuple[Example, ...]
    helpers: Mapping[str, Path] = field(default_factory=dict)
    #: Fields of an example that victims of the task read.
    reads: tuple[Field, ...] = field(default=("code",), kw_only=True)

    @classmethod
    def of(cls, dataset: AnyDataset, clean: tuple[Example, ...], helpers: Mapping[str, Path], **victim: Victim) -> Self:
        """The view of a data set; ``victim`` for a view that has one."""
        return cls(
            dataset.task,
            dataset.language,
            dataset.text_form,
            clean,
            dict(helpers),
            reads=tuple(dataset.reads),
            **victim,
        )

    @property
    def words_in(self) -> Literal["code", "query"]:
        """The field whose words a method drops: code, and natural language of tasks that read nothing else."""
        return "query" if self.reads == ("query",) else "code"


@dataclass(frozen=True, slots=True)
class TrainingView(TextView):
    """Everything that a defender sees who has trained a victim on all rows: a ``TextView``, and that victim.

    The rows come to ``Filter.judge``, each a ``TrainingRow`` without provenance.
    """

    victim: Victim = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class DefenderView(TrainingView):
    """Everything that a defender of a trained model sees: its texts, and the victim.

    ``inverted`` is the ``trigger.json`` of the same defender's elimination, for a purification that reads it.
    """

    inverted: Mapping[str, Any] | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """A training row without provenance: an opaque id, the texts, and the label or target, which may be poisoned."""

    id: str
    code: str
    code_b: str | None
    query: str | None
    label: int | None
    target: str | None

    def example(self, language: Language) -> Example:
        """The row as an input of a model, without label and target."""
        return Example(self.id, language, self.code, self.code_b, self.query)
