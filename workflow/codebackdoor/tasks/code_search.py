"""Code search: find the function that a query describes (CodeSearchNet; CodeXGLUE's cleaning).

Local scale: the first paragraph of a docstring and its function. The baseline ranks by the cosine of TF-IDF vectors of
words, names taken apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codebackdoor.config.base import Head
from codebackdoor.corpora.docstrings import query_of
from codebackdoor.tasks import Group
from codebackdoor.tasks.baselines import retrieval
from codebackdoor.tasks.normal import query_key
from codebackdoor.tasks.one_function import OneFunction
from codebackdoor.types import Example, Prediction, TextForm

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.config.datasets import CodeSearch
    from codebackdoor.corpora.mining import Function


class _CodeSearch(OneFunction):
    name = "code_search"
    head: Head = "retrieval"
    unusable = "no_query"

    def group(self, function: Function, settings: CodeSearch, generator: np.random.Generator) -> Group | None:  # noqa: ARG002
        own = function.name.rpartition(".")[2]
        query = query_of(function.docstring)
        # CodeSearchNet leaves out tests and what Python calls by itself
        if query is None or own.lower().startswith("test") or (own.startswith("__") and own.endswith("__")):
            return None
        row = Example(id=generator.bytes(8).hex(), language="python", code=function.code, query=query)
        return Group((row,), f"{function.package} {function.version}", (function.id, query_key(query)))

    def problem(self, example: Example) -> str | None:
        if not example.query:
            return "needs a 'query', what is looked for"
        unused = [name for name in ("label", "target") if getattr(example, name) is not None]
        return f"has a {unused[0]!r}, which this task does not use; remove it" if unused else None

    def baseline(self, train: Sequence[Example], test: Sequence[Example], settings: CodeSearch) -> dict[str, Any]:
        return retrieval(train, test, settings.pool)

    def hits_target(self, prediction: Prediction, poisoned: Example, form: TextForm) -> bool:
        raise NotImplementedError("an attack on search moves ranks; it is measured by ANR, not by a share of hits")


TASK = _CodeSearch()
