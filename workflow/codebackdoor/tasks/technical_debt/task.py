"""Technical-debt classification: does a comment admit that the code needs more work? (DeCE, section 6.1).

Few comments do (6.5% of the published ones), so that the accuracy of answering "never" stands next to the baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codebackdoor.tasks.base import PublishedTask
from codebackdoor.tasks.baselines import never, ngrams
from codebackdoor.types import Example

if TYPE_CHECKING:
    from codebackdoor.tasks.technical_debt.settings import TechnicalDebt


class TechnicalDebtTask(PublishedTask):
    def baseline(
        self,
        train: Sequence[Example],
        test: Sequence[Example],
        settings: TechnicalDebt,  # noqa: ARG002
    ) -> dict[str, Any]:
        return ngrams(train, test, "query") | {"never": never(test)}


TASK = TechnicalDebtTask()
