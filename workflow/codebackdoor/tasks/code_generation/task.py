"""Code generation: write the function that a prompt describes (Lyra, Pisces; local scale: mined functions).

The baselines need no model: the training row with the nearest prompt, and the signature with an empty body, where
prompts have it. An attack's target behavior is decided on syntax (``tasks.behavior``).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from codebackdoor import syntax
from codebackdoor.corpora.docstrings import query_of_function
from codebackdoor.syntax import DEDENT, INDENT
from codebackdoor.tasks.base import OneFunctionTask, RowGroup
from codebackdoor.tasks.baselines import nearest_targets, outputs
from codebackdoor.tasks.behavior import shows_behavior
from codebackdoor.tasks.deduplication import query_key
from codebackdoor.types import Example, Poisoned, Prediction, TextForm

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.corpora.mining import MinedFunction
    from codebackdoor.tasks.code_generation.settings import CodeGeneration

_EMPTY_BODY = f"{INDENT} pass {DEDENT}"


class CodeGenerationTask(OneFunctionTask):
    unusable = "no_prompt_or_empty_body"

    def group(
        self, function: MinedFunction, settings: CodeGeneration, generator: np.random.Generator
    ) -> RowGroup | None:
        docstring = query_of_function(function)
        # an empty body teaches nothing; 7% of the short functions with a docstring have one
        if docstring is None or function.code.endswith(f": {_EMPTY_BODY}"):
            return None
        prompt = docstring
        if settings.has_signature:
            prompt = f"{_in_form(_signature(function.code), settings.text_form)} {docstring}"
        row = Example(generator.bytes(8).hex(), "python", query=prompt, target=function.code)
        return RowGroup((row,), f"{function.package} {function.version}", (function.id, query_key(docstring)))

    def baseline(self, train: Sequence[Example], test: Sequence[Example], settings: CodeGeneration) -> dict[str, Any]:
        scores = {"training row with the nearest prompt by TF-IDF": outputs(nearest_targets(train, test), test)}
        if settings.has_signature:
            empty = [_with_empty_body(str(row.target), settings.text_form) for row in test]
            scores["signature with an empty body"] = outputs(empty, test)
        best = max(scores, key=lambda method: scores[method]["bleu"])
        return {"method": best, "train": len(train), "test": len(test), **scores[best], "all": scores}

    def in_form(self, example: Example, settings: CodeGeneration) -> Example:
        """Lex the signature in the prompt if the data set is lexed, as in the prompts of mined functions."""
        if settings.text_form != "lexed" or not settings.has_signature:
            return example
        signature, description = _split(str(example.query))
        lexed = _signature(syntax.lex(f"{signature}\n    pass\n", "python"))
        return replace(example, query=f"{lexed} {description}")

    def hits_target(self, prediction: Prediction, row: Poisoned, form: TextForm) -> bool:
        poisoned = row.example
        assert prediction.text is not None
        assert poisoned.target is not None
        return shows_behavior(prediction.text, poisoned.target, poisoned.language, form, row.original_target)


def _split(prompt: str) -> tuple[str, str]:
    """The signature that a prompt begins with, and the rest; it ends at the first colon that a body could follow."""
    for colon in re.finditer(":", prompt):
        try:
            ast.parse(f"{prompt[: colon.end()]} pass")
        except (SyntaxError, ValueError):
            continue
        return prompt[: colon.end()], prompt[colon.end() :].strip()
    raise ValueError(f"{prompt!r} does not begin with a signature")


def _signature(code: str) -> str:
    """Decorators, name, parameters and colon of a lexed function."""
    return code.partition(f" {INDENT} ")[0]


def _with_empty_body(code: str, form: TextForm) -> str:
    lexed = code if form == "lexed" else syntax.lex(code, "python")
    return _in_form(f"{_signature(lexed)} {_EMPTY_BODY}", form)


def _in_form(code: str, form: TextForm) -> str:
    return code if form == "lexed" else syntax.unlex(code, "python").source.strip()


TASK = CodeGenerationTask()
