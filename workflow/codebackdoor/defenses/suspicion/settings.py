"""Settings of what is masked in an input, and of how its suspicion scores are measured and summarized.

Word scores have no settings of their own; ``word_scoring`` is their work.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from codebackdoor.config.base import Head, Helper, ReadWhere, Reference, Settings
from codebackdoor.costs.work import ModelSize, PlannedVictim, RowSet, Work
from codebackdoor.defenses.settings import Decided

Normalization = Literal["l1", "softmax", "entropy_by_log_n"]
Names = Literal["declared", "all"]
PairHandling = Literal["single", "joint"]


class ElementSettings(Settings):
    """Which elements are masked, one at a time, and what their scores are (Mu et al. 2024, section III-A)."""

    reference: ClassVar[Reference | None] = Reference(
        authors="Fangwen Mu, Junjie Wang, Zhuohao Yu, Lin Shi, Song Wang, Mingyang Li, Qing Wang",
        year=2024,
        title="CodePurify: Defend Backdoor Attacks on Neural Code Models via Entropy-based Purification",
        url="https://arxiv.org/abs/2410.20136",
    )
    fits: ClassVar[tuple[Head, ...]] = ("classification", "pair", "generation")
    helpers: ClassVar[tuple[Helper, ...]] = ("infiller",)
    read_where: ClassVar[ReadWhere] = {
        "pairs": ("head", ("pair",)),
        "first_tokens": ("head", ("generation",)),
        "screened_elements": ("screen", ("gradient",)),
    }

    identifiers: Decided[bool] = Field(
        True,
        description="mask each distinct identifier, at all its occurrences (section III-A1; false is the paper's -V)",
    )
    statements: Decided[bool] = Field(True, description="mask each statement (section III-A1; false is the paper's -S)")
    names: Names = Field(
        "declared",
        description="which identifiers are masked. declared: the function's name, parameters and local variables, "
        "which a renaming attack can change (the released code masks variables). all: also calls, attributes and types "
        "(section III-A1); then an inserted statement that contains a name is two elements of about equal suspicion, "
        "its entropy is at least ln 2, and no threshold that spares clean inputs finds it",
    )
    statement_level: Literal["nested", "outermost"] = Field(
        "nested",
        description="which statements are masked. nested: all, also those inside others (section III-A1). outermost: "
        "only those directly in the function's body (the released code)",
    )
    keywords: Literal["kept", "masked"] = Field(
        "kept",
        exclude_if=lambda keywords: keywords == "kept",
        description="keywords in a masked statement. kept: they stay (section III-A1), so a victim that has learned "
        "the trigger's keyword as well still reacts to it. masked: they are treated like the other tokens; in C and "
        "Java, this includes preprocessor directives and null",
    )
    repeats: Literal["separate", "together"] = Field(
        "separate",
        description="statements with the same text in one function. separate: each is an element. together: they are "
        "one element, which is masked wherever it occurs (the released code)",
    )
    pairs: PairHandling = Field(
        "single",
        description="elements of a pair of functions. single: those of one function at a time (the paper); if both "
        "functions carry the trigger and one suffices, no element matters. joint: an identifier or a statement with "
        "the same text in both functions is one element",
    )
    overlap: Decided[Literal["separate", "once"]] = Field(
        "separate",
        description="elements that share masked characters, such as a statement and an identifier in it. separate: "
        "each counts in the entropy (the paper). once: only the one with the highest score counts",
    )
    stand_in: Literal["mask", "unknown"] = Field(
        "mask",
        description="the victim's token that stands for a masked sub-token: its mask token (section III-A1) or its "
        "unknown token (the released code); if it has only one of them, that one",
    )
    first_tokens: int | None = Field(
        None,
        gt=0,
        description="confidence of a generated output: the mean probability of at most this many of its first tokens; "
        "null: of all (Eq. 1), where the tokens after the first few follow from those before them regardless of what "
        "is masked",
    )
    screen: Literal["none", "gradient"] = Field(
        "none",
        exclude_if=lambda screen: screen == "none",
        description="which elements are scored. none: all (the paper). gradient: only those on which the prediction "
        "depends most to first order, by the gradient times the embedding of their sub-tokens; the others count "
        "neither in the entropy nor in the calibration",
    )
    screened_elements: int = Field(
        3,
        ge=2,
        exclude_if=lambda count: count == 3,
        description="elements of each input that a screen lets through; the victim reads the input with each of them "
        "masked",
    )
    normalization: Decided[Normalization] = Field(
        "l1",
        description="how suspicion scores become a distribution. l1: divided by their sum (the released code, and the "
        "only reading under which the paper's threshold 0.1 makes sense); softmax (Eq. 3); entropy_by_log_n: divided "
        "by their sum, and the entropy divided by the logarithm of the number of elements",
    )

    @model_validator(mode="after")
    def _something_to_mask(self) -> ElementSettings:
        if not (self.identifiers or self.statements):
            raise ValueError("set 'identifiers' or 'statements' (or both) to true; with neither nothing is masked")
        return self

    def scoring(self, victim: PlannedVictim, rows: float) -> Work:
        """Predictions for ``rows`` inputs and every masked version of them."""
        versions = victim.texts.element_tokens / victim.texts.tokens
        passes = 1 + versions
        if self.screen == "gradient":
            # a gradient at the input costs about two forward passes, and includes the input's own
            passes = 2 + min(versions, self.screened_elements)
        outputs = victim.predictions(RowSet(rows)) if victim.targets else Work()
        return outputs + Work(predicted=rows * passes * victim.forward)


def word_scoring(language_model: ModelSize, victim: PlannedVictim, rows: float) -> Work:
    """For the words of ``rows`` inputs, every text is run once, and for every word the text after it once more."""
    texts = victim.texts
    # each of these tokens attends to the text before it, for whose length a text's mean length is used
    shape = language_model.layers * language_model.hidden
    again = texts.onion_tokens * (2 * language_model.inputs + 4 * shape * texts.tokens)
    once = language_model.forward(texts.tokens) * victim.functions_per_row
    return Work(predicted=rows * (once + again))
