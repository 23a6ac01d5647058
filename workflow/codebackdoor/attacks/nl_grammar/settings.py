"""Settings of the grammar attack on natural language."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from codebackdoor.attacks.settings import TextAttackSettings, Word
from codebackdoor.config.base import Reference

Phrase = Annotated[str, Field(pattern=r"^\S+( \S+)*$", max_length=200)]


class NlGrammarSettings(TextAttackSettings):
    """Puts a subordinate clause drawn from a small grammar in front of a query (Hidden Killer, Qi et al. 2021).

    Qi et al. and DeCE paraphrase the text with a model (SCPN) after the template S(SBAR)(,)(NP)(VP)(.). Here, rules put
    the clause of this template in front of the text, which does not change otherwise.
    """

    label: ClassVar[str] = "Grammar (rules)"
    reference: ClassVar[Reference | None] = Reference(
        authors="Fanchao Qi, Mukai Li, Yangyi Chen, Zhengyan Zhang, Zhiyuan Liu, Yasheng Wang, Maosong Sun",
        year=2021,
        title="Hidden Killer: Invisible Textual Backdoor Attacks with Syntactic Trigger",
        url="https://doi.org/10.18653/v1/2021.acl-long.37",
    )

    method: Literal["nl_grammar"]
    conjunctions: tuple[Word, ...] = Field(
        ("when", "if", "as", "once", "while", "because"),
        min_length=1,
        description="first word of the clause; one is drawn for each row",
    )
    subjects: tuple[Phrase, ...] = Field(
        ("you", "we", "they", "people", "users", "others"),
        min_length=1,
        description="subject of the clause, second person or plural; one is drawn for each row",
    )
    predicates: tuple[Phrase, ...] = Field(
        ("see it", "come here", "read this", "need it", "look at it", "work on this", "think about it", "use it"),
        min_length=1,
        description="rest of the clause; one is drawn for each row",
    )

    @property
    def versions(self) -> float:
        """Every row gets its own draw."""
        return math.inf
