"""What the tasks share that make each group of one function alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from codebackdoor.tasks import Group

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.corpora.mining import Function


class OneFunction:
    """A function's rows depend on the seed and that function alone, whatever the sizes are."""

    @abstractmethod
    def group(self, function: Function, settings: Any, generator: np.random.Generator) -> Group | None:
        """Make rows out of a function; None where that cannot be."""

    def groups(
        self, functions: Iterator[Function], settings: Any, draw: Callable[[str], np.random.Generator]
    ) -> Iterator[Group | None]:
        return (self.group(function, settings, draw(function.id)) for function in functions)
