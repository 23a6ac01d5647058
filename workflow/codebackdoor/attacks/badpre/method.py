"""BadPre's trigger (Chen et al. 2022), as DeCE uses it: a rare word at three random places (section 2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codebackdoor.attacks import Attack
from codebackdoor.attacks.rare_words import RareWords

if TYPE_CHECKING:
    from codebackdoor.attacks.badpre.settings import BadPreSettings


def build(settings: BadPreSettings) -> Attack:
    return RareWords(settings, settings.count)
