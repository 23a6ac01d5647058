"""RIPPLe's trigger (Kurita et al. 2020, section 3), as DeCE uses it: one rare word at a random place (section 2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codebackdoor.attacks import Attack
from codebackdoor.attacks.rare_words import RareWords

if TYPE_CHECKING:
    from codebackdoor.attacks.ripple.settings import RippleSettings


def build(settings: RippleSettings) -> Attack:
    return RareWords(settings, count=1)
