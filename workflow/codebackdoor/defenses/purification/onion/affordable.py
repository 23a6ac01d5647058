"""ONION's threshold by what a victim may lose on clean validation rows (Qi et al. 2021, section 4.1).

The only part of ONION that runs a victim; ``method`` imports it by name, so that variants without a victim do not
depend on this code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from codebackdoor.defenses import thresholds
from codebackdoor.defenses.purification.performance import last_affordable
from codebackdoor.defenses.views import DefenderView, TextView
from codebackdoor.errors import UserError
from codebackdoor.types import Example

#: Shares of removed words that are tried, from few to many.
SHARES = tuple(step / 200 for step in range(1, 101))


def threshold(
    view: TextView,
    clean: Sequence[Example],
    drops: Sequence[float],
    lost_points: float,
    shortened: Callable[[float], Sequence[Example]],
) -> float:
    """The threshold of the last share of removed words before the first one that costs the victim more points.

    ``drops`` are those of all words of ``clean``; ``shortened`` gives the rows without the words above a threshold.
    """
    if not isinstance(view, DefenderView):
        raise UserError("onion with lost_points looks at the victim; use removed_share where there is none")
    candidates = (thresholds.highest(drops, share) for share in SHARES)
    return last_affordable(view.victim, clean, lost_points, candidates, shortened, math.inf)
