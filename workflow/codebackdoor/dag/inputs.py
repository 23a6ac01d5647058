"""The inputs of a rule and the command-line options that name them, both from one table.

A table is a method that yields the ``Input`` of one job; ``@table`` makes it an attribute with the two functions that a
rule needs: ``input: unpack(dag.train.craft.inputs)`` and ``params: inputs=dag.train.craft.options``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codebackdoor.config.study import Config
from codebackdoor.dag.files import Files
from codebackdoor.dag.parameters import Parameters, named_options
from codebackdoor.dag.paths import Paths, Wildcards, fill, folder_of
from codebackdoor.dag.testsets import Testsets


@dataclass(frozen=True, slots=True)
class Input:
    """Files that a job reads under one name, and the command-line options that name them.

    Without files it is not an input of the rule: a hub checkpoint has no files, but its command needs the ID.
    """

    name: str
    files: str | Sequence[str]
    options: tuple[str, ...] = ()

    @classmethod
    def file(cls, name: str, path: str, option: str) -> Input:
        return cls(name, path, (option, path))

    @classmethod
    def folder(cls, name: str, files: Sequence[str], option: str) -> Input:
        """Files of one folder, which is the value of the option."""
        return cls(name, files, (option, folder_of(files)))

    @classmethod
    def named(cls, name: str, files: Mapping[str, str], option: str) -> Input:
        """Files with names: the option is repeated with ``name=path``."""
        return cls(name, list(files.values()), tuple(named_options(option, files)))


@dataclass(frozen=True, slots=True)
class JobInputs:
    """The functions of a rule that read its table."""

    table: Callable[[Wildcards], Iterable[Input]]

    def inputs(self, wildcards: Wildcards) -> dict[str, str | Sequence[str]]:
        return {entry.name: entry.files for entry in self.table(wildcards) if entry.files}

    def options(self, wildcards: Wildcards) -> list[str]:
        return [word for entry in self.table(wildcards) for word in entry.options]


class table:  # noqa: N801
    """Decorator for a method that yields the inputs of one rule's jobs, and has the rule's name."""

    def __init__(self, method: Callable[[Any, Wildcards], Iterator[Input]]) -> None:
        self._method = method

    def __get__(self, part: object, _owner: type) -> JobInputs:
        return JobInputs(self._method.__get__(part))


@dataclass(frozen=True)
class Part:
    """Base class of the parts: the objects that the tables of all rules are computed from."""

    config: Config
    paths: Paths
    parameters: Parameters
    files: Files
    testsets: Testsets

    def base(self, wildcards: Wildcards) -> Input:
        """The base model of a victim."""
        folder = self.files.base(wildcards.model, wildcards.dataset)
        return Input("base", self.files.model(folder), ("--base", folder))

    def helpers(self, kind: str, variant: str) -> Input:
        """The helper models of a method."""
        return Input("helpers", self.files.helpers(kind, variant), tuple(self.parameters.helpers(kind, variant)))

    def victim(self, pattern: str, wildcards: Wildcards) -> Input:
        """The model that a job reads."""
        return Input.folder("victim", self.files.model(self.at_home(pattern, wildcards)), "--victim")

    def at_home(self, pattern: str, wildcards: Wildcards) -> str:
        """``pattern`` filled with the wildcards, with the data set that the victim is trained on."""
        return fill(pattern, wildcards, dataset=self.config.home(wildcards.dataset))

    def filtered(self, wildcards: Wildcards) -> str:
        """The folder of the training rows that a filtering keeps."""
        is_shared = self.parameters.declared("filtering", wildcards.filtering).is_shared
        return fill(self.paths.filtered if is_shared else self.paths.filtered_by_victim, wildcards)

    def clean(self, dataset: str) -> Input:
        """The defender's clean samples."""
        return Input.file("clean", self.paths.data(dataset, "clean"), "--clean")
