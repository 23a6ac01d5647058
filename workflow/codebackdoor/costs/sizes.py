"""Numbers of rows of the papers' data sets, so that a plan needs no files.

The splits of Devign, BigCloneBench and Bugs2Fix are from CodeXGLUE's pages on defect detection, clone detection (BCB)
and code refinement (small); those of CodeSearchNet, from its page on code-to-text for Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of the splits.

    ``positive``: share of the rows with label 1, the same in every split; None if rows have no label. ``functions``:
    number of distinct functions in pairs, each of which occurs in many pairs.
    """

    train: int
    valid: int
    test: int
    positive: float | None = None
    functions: int | None = None

    def without(self, label: int) -> float:
        """Share of the rows that do not have the label; all of them if rows have no labels."""
        if self.positive is None:
            return 1.0
        return {0: self.positive, 1: 1 - self.positive}.get(label, 1.0)


#: By the name of the published data set (``tasks/*/settings.py``).
SIZES: Mapping[str, Rows] = {
    # counted on the test split; the splits were drawn at random
    "devign": Rows(21854, 2732, 2732, positive=1255 / 2732),
    # counted on CodePurify's sample of the test split; 9 134 lines of data.jsonl
    "bigclonebench": Rows(901028, 415416, 415416, positive=1329 / 9973, functions=9134),
    # CodePurify, Table I
    "bigclonebench_codepurify": Rows(80000, 10000, 10000, positive=1329 / 10000, functions=9134),
    "codesearchnet": Rows(251820, 13914, 14918),
    "bugs2fix": Rows(46680, 5835, 5835),
    "bugs2fix_identifiers": Rows(46680, 5835, 5835),
    # DeCE, Table 2
    "lyra": Rows(1600, 200, 200),
    "lyra_chinese": Rows(1600, 200, 200),
    "pisces": Rows(1600, 200, 200),
    # HumanEval has only test rows
    "humaneval": Rows(0, 0, 164),
    "mbpp": Rows(374, 90, 500),
    # counted on the comments that the reader keeps; the share of a split is between 0.04 and 0.10
    "maldonado": Rows(26267, 4228, 8044, positive=3277 / 38539),
    # counted on the rows that the reader keeps; the original has no splits, so these are 80%, 10% and 10%
    "fakhoury": Rows(1355, 169, 169, positive=776 / 1693),
}
