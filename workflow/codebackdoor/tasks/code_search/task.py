"""Code search: find the function that a query describes (CodeSearchNet; CodeXGLUE's cleaning).

Local scale: the first paragraph of a docstring and its function. The baseline ranks by the cosine of TF-IDF vectors of
words, with names split into their parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codebackdoor.corpora.docstrings import query_of_function
from codebackdoor.tasks.base import OneFunctionTask, RowGroup
from codebackdoor.tasks.baselines import retrieval
from codebackdoor.tasks.deduplication import query_key
from codebackdoor.types import Example, Poisoned, Prediction, TextForm

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.corpora.mining import MinedFunction
    from codebackdoor.tasks.code_search.settings import CodeSearch


class CodeSearchTask(OneFunctionTask):
    unusable = "no_query"

    def group(
        self,
        function: MinedFunction,
        settings: CodeSearch,  # noqa: ARG002
        generator: np.random.Generator,
    ) -> RowGroup | None:
        query = query_of_function(function)
        if query is None:
            return None
        row = Example(id=generator.bytes(8).hex(), language="python", code=function.code, query=query)
        return RowGroup((row,), f"{function.package} {function.version}", (function.id, query_key(query)))

    def baseline(self, train: Sequence[Example], test: Sequence[Example], settings: CodeSearch) -> dict[str, Any]:
        return retrieval(train, test, settings.pool)

    def hits_target(self, prediction: Prediction, row: Poisoned, form: TextForm) -> bool:
        raise NotImplementedError("an attack on search moves ranks; it is measured by ANR, not by a share of hits")


TASK = CodeSearchTask()
