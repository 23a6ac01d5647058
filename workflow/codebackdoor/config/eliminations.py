"""Settings of the methods that edit a victim's weights: EliBadCode, DBS and clean fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from codebackdoor.config.base import Head, ReadWhere, Settings
from codebackdoor.config.paths import CalibrationPath
from codebackdoor.types import Pair

Heads = tuple[Head, ...]
_JUDGING: Heads = ("classification", "pair", "retrieval")
Schedule = Literal["released", "constant", "linear"]

#: Where the calibrations lie that ship with the package; the setting ``calibration`` names one by its stem.
CALIBRATIONS = Path(__file__).parents[1] / "defenses" / "elimination" / "elibadcode" / "calibration"


#: The places that ``position: scan`` tries, in this order: identifiers, as in the paper.
SCANNED = ("least_sensitive", "function_name")
#: Those of ``position: scan_all``: a first statement of the body as well.
SCANNED_ALL = (*SCANNED, "statement")


def calibration_of(name: str | None, dataset: str, model: str) -> str | None:
    """The setting ``calibration`` for the variants of one scenario."""
    return None if name is None else name.replace("{dataset}", dataset).replace("{model}", model)


def calibration_file(name: str) -> Path:
    """The file that the setting ``calibration`` means: one that ships with the package, or a path."""
    shipped = CALIBRATIONS / f"{name}.json"
    return shipped if shipped.is_file() else Path(name)


#: Settings that are read once the trigger is there.
_AFTERWARDS = {"unlearning", "unlearn_when_clean", "rounds"}


def searched_before(eliminations: Mapping[str, Elimination]) -> dict[str, tuple[str, ...]]:
    """By variant that inverts, those above it whose walks it may take over; first of them those with the same trigger.

    All of them, since not every victim is given to the first: the first that it is given to searches.
    """
    inverting = {name: one for name, one in eliminations.items() if isinstance(one, Inverting)}
    found: dict[str, tuple[str, ...]] = {}
    for name, settings in inverting.items():
        above = [other for other in found if inverting[other].walk() == settings.walk()]
        found[name] = tuple(sorted(above, key=lambda other: inverting[other].search() != settings.search()))
    return found


class Elimination(Settings):
    """What all eliminations share."""

    #: Whether the method inverts a trigger, which its ``trigger.json`` then holds.
    inverts: ClassVar[bool] = False


class Budget(Settings):
    """How long a victim is fine-tuned, at what rate, and which of its parameters learn."""

    epochs: int = Field(ge=0, description="passes over the clean samples")
    learning_rate: float = Field(ge=0, description="learning rate of AdamW")
    layers: Literal["last", "all"] | None = Field(
        default=None, description="parameters that learn (released code: all; null: the same as of all other victims)"
    )


class UnlearningBudget(Budget):
    """The same of unlearning, and how many functions get the trigger."""

    rate: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of the functions that get the trigger, and of the queries that get the words (null: the "
        "same as of all other victims; at 0.5 no pair stays as it was)",
    )


class LastLayer(Elimination):
    """How the victim is fine-tuned on the clean samples: shared by unlearning and by its control."""

    fits: ClassVar[Heads] = _JUDGING
    read_where: ClassVar[ReadWhere] = {"searching": ("head", ("retrieval",))}

    epochs: int = Field(
        default=1, ge=0, description="passes over the clean samples (paper: 1, released configuration); 0: none"
    )
    learning_rate: float = Field(
        default=5e-3, ge=0, description="learning rate of AdamW (paper: 5e-3, released configuration)"
    )
    batch_size: int = Field(
        default=32, gt=0, description="clean samples of one step (paper: 32, released configuration)"
    )
    schedule: Schedule = Field(
        default="constant",
        description="learning rate over the steps; the paper does not say. released: it rises over the first tenth of "
        "the steps from 0, then falls to 0, and a gradient with a norm above 1 is clipped to it (released code). "
        "constant: the same. linear: it falls to 0 from the first step on. The last two clip nothing",
    )
    dropout: bool = Field(
        default=False,
        description="whether the dropout that the victim was trained with acts while it learns (released code: yes; "
        "the paper does not say); small victims are trained without any",
    )
    layers: Literal["last", "all"] = Field(
        default="last",
        description="parameters that learn: those named 'classifier' (paper section 4.5), or all (its Figure 8)",
    )
    searching: Budget | None = Field(
        default=None,
        description="epochs, learning_rate and layers of a victim that searches (null, the paper: the same as of all "
        "others; the released code lets all layers learn there)",
    )

    def on(self, head: Head) -> Self:
        """These settings as a victim with this head is given them."""
        if head != "retrieval" or self.searching is None:
            return self
        return self.model_copy(update=self.searching.model_dump(exclude_none=True))


class Unlearning(LastLayer):
    """Phase (d), section 4.5: fine-tune on clean samples of which some carry the anchored trigger."""

    searching: UnlearningBudget | None = Field(
        default=None,
        description="epochs, learning_rate, layers and rate of a victim that searches (null, the paper: the same as of "
        "all others; the released code lets all layers learn there)",
    )
    rate: float = Field(
        default=0.2, ge=0, le=1, description="share of the clean samples that get the trigger (paper: 0.2)"
    )
    classes: Literal["all", "victim"] = Field(
        default="all",
        description="which classes get it: all, or only those that are not the target (released code; of classifiers)",
    )
    places: Literal["found", "scanned"] = Field(
        default="found",
        description="found: the trigger stands where the search found it (paper); scanned: at each of the places that "
        "were searched by turns, since one that works at several is found at one",
    )
    labels: Literal["correct", "ascent"] = Field(
        default="correct",
        description="correct: samples with the trigger keep their label (section 5.1); ascent: their loss towards the "
        "target label is raised (Eq. 4; of classifiers)",
    )


class Inverting(Elimination):
    """What the methods that invert a trigger share: of what it is made, where it stands, on which samples."""

    inverts: ClassVar[bool] = True
    fits: ClassVar[Heads] = _JUDGING
    read_where: ClassVar[ReadWhere] = {"rank": ("position", ("rank",)), "pair": ("head", ("pair",))}

    vocabulary: Literal["paper", "words", "language", "all"] = Field(
        default="paper",
        description="pieces that a trigger is made of (section 4.2). paper: [A-Za-z0-9_]+ whatever the language. "
        "words: the same, and where all places follow a space it may begin with a piece that only begins words. "
        "language: the language's own rule with a legal first character. all: every piece with a visible text, also "
        "inside of the trigger those that begin a word, with their space (Table 5, without phase (a))",
    )
    position: Literal["least_sensitive", "function_name", "statement", "scan", "scan_all", "random", "rank"] = Field(
        default="least_sensitive",
        description="identifier that the trigger replaces: the least sensitive one of each sample (section 4.3), the "
        "function's name, scan: both tried and the label scan decides, one at random (Table 5, without phase (b)), or "
        "the one of a `rank` of sensitivity (Figure 5). statement: the trigger is put first into the function's body, "
        "and made of any pieces. scan_all: these three places (both of no paper)",
    )
    rank: int = Field(
        default=0,
        description="identifiers of a sample that are less sensitive than that of the trigger; below 0, counted from "
        "the most sensitive one, which is -1",
    )
    occurrences: Literal["one", "all"] = Field(
        default="one",
        description="replace one occurrence of the identifier (paper), or all, which keeps the code's meaning",
    )
    pair: Pair = Field(
        default="both",
        description="functions of a pair that get the trigger (released code: the first); pair classification only",
    )
    samples: int = Field(default=30, gt=0, description="clean samples of each class for the inversion (paper: 30)")
    sample_tokens: int | None = Field(
        default=None,
        gt=2,
        description="longest clean sample of the inversion, in the victim's sub-tokens (null, the paper: any); where "
        "fewer than twice `samples` are as short, the shortest ones serve",
    )
    length: int = Field(default=5, gt=0, description="sub-tokens of the trigger that is searched, n (paper: 5)")

    @property
    def places(self) -> tuple[str, ...]:
        if self.position == "scan":
            return SCANNED
        if self.position == "scan_all":
            return SCANNED_ALL
        return (f"rank {self.rank}" if self.position == "rank" else self.position,)

    def vocabulary_at(self, place: str) -> Literal["paper", "words", "language", "all"]:
        """Of what a trigger at this place is made: a statement is no identifier."""
        return "all" if place == "statement" else self.vocabulary

    def search(self) -> dict[str, Any]:
        """All settings that the trigger depends on: with the same the same is inverted in a victim."""
        return self.model_dump(mode="json", exclude=_AFTERWARDS)

    def walk(self) -> dict[str, Any]:
        """The settings of ``search`` that the steps towards the trigger depend on.

        A search at one place does not depend on which other places are scanned.
        """
        scanned = {"position": "scan"} if self.position == "scan_all" else {}
        return self.search() | scanned


class EliBadCode(Inverting):
    """Trigger inversion, anchoring and unlearning (Sun et al. 2025, section 4)."""

    read_where: ClassVar[ReadWhere] = {
        **Inverting.read_where,
        "ratio": ("calibration", ()),
        "word_length": ("head", ("retrieval",)),
        "target_word": ("head", ("retrieval",)),
        "unlearn_when_clean": ("calibration", ()),
        "rounds": ("calibration", ()),
    }
    #: Settings on which an inverted loss depends: a calibration holds for searches with the same.
    SEARCH: ClassVar[tuple[str, ...]] = (
        "vocabulary",
        "occurrences",
        "pair",
        "word_length",
        "target_word",
        "samples",
        "sample_tokens",
        "length",
        "iterations",
        "top_k",
        "candidates",
        "race",
        "keep_current",
        "restarts",
        "patience",
    )

    #: Settings that are read once the walks have ended, and what they ended with is judged.
    JUDGED: ClassVar[tuple[str, ...]] = ("beta", "calibration", "ratio")

    method: Literal["elibadcode"]
    word_length: int = Field(
        default=2,
        gt=0,
        description="words of the target that is inverted together with the trigger, m (released code: 2); retrieval "
        "only",
    )
    target_word: str | None = Field(
        default=None,
        min_length=1,
        description="the target word, where the defender knows it: the trigger is inverted alone, on clean queries "
        "that have the word (released code: file); null: word and trigger are searched together (Algorithm 2); "
        "retrieval only",
    )
    iterations: int = Field(default=100, ge=0, description="steps of the search, epsilon (paper: 100)")
    top_k: int = Field(default=64, gt=0, description="substitutes a slot with the steepest gradient, k (paper: 64)")
    candidates: int = Field(default=64, gt=0, description="candidate triggers scored in one step, r (paper: 64)")
    race: int | None = Field(
        default=None,
        gt=0,
        description="score the candidates on this many samples, and only the best eighth of them on the rest (null, "
        "the paper: any that may be the best on all)",
    )
    keep_current: bool = Field(
        default=True,
        description="whether the current trigger competes with its candidates (paper, Algorithm 1 line 19: no); the "
        "best trigger of the whole way is kept in either case",
    )
    restarts: int = Field(
        default=1, gt=0, description="searches from independent first triggers, the best kept (paper: 1)"
    )
    patience: int | None = Field(
        default=None,
        gt=0,
        description="end a search after so many steps without a loss that is lower by 0.001 (null, the paper: never)",
    )
    beta: float = Field(
        default=0.15, ge=0, description="change of the loss above which a token is anchored (paper: 0.15)"
    )
    calibration: CalibrationPath | None = Field(
        default=None,
        description="losses that benign victims reach in the same search: name of a shipped calibration, or path of a "
        "JSON file, in which {dataset} and {model} stand for the scenario's; null: the label of the smallest loss is "
        "always flagged, never 'clean' (released code)",
    )
    ratio: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="a label is flagged when its loss is at most this share of the lowest loss of a benign shadow",
    )
    unlearn_when_clean: bool | Literal["retrieval"] = Field(
        default=False,
        description="unlearn the most suspicious trigger although the scan says 'clean' (paper, Table 4); retrieval: "
        "in code search alone, where the paper has no verdict",
    )
    rounds: int = Field(
        default=1,
        gt=0,
        description="most triggers that are unlearned one after another. 1: the one that the scan flags (paper). More: "
        "after each the edited victim is scanned with fresh seeds, until a scan says 'clean'",
    )
    unlearning: Unlearning = Field(default=Unlearning(), description="phase (d)")

    def walk(self) -> dict[str, Any]:
        """With ``patience`` without the number of steps there may be: most walks end before."""
        free = self.JUDGED if self.patience is None else {*self.JUDGED, "iterations"}
        return {name: value for name, value in super().walk().items() if name not in free}

    def works_on(self) -> Heads:
        """A dual encoder has neither classes nor a target label, by which some of the unlearning may be told."""
        by_label = self.unlearning.classes == "victim" or self.unlearning.labels == "ascent"
        return ("classification", "pair") if by_label else self.fits

    def unlearns(self, flagged: bool, head: Head) -> bool:
        """Whether a trigger is unlearnt from a victim with this head."""
        return flagged or self.unlearn_when_clean is True or self.unlearn_when_clean == head


class Dbs(Inverting):
    """Dynamic bound scaling (Shen et al. 2022) with EliBadCode's vocabulary and unlearning (its section 5.1).

    The defaults are the configuration that Shen et al. released; their code and EliBadCode's copy of it differ in the
    fields that name the copy.
    """

    fits: ClassVar[Heads] = ("classification", "pair")

    method: Literal["dbs"]
    iterations: int = Field(default=200, gt=0, description="steps of the search of one label (Shen et al.: 200)")
    learning_rate: float = Field(default=0.5, gt=0, description="learning rate of Adam (Shen et al.: 0.5)")
    decay_every: int = Field(
        default=50, gt=0, description="steps after which the learning rate is multiplied by `decay` (Shen et al.: 50)"
    )
    decay: float = Field(default=0.5, gt=0, le=1, description="factor of the learning rate (Shen et al.: 0.5)")
    initial_temperature: float = Field(
        default=2.0, gt=0, description="temperature until the loss is under the barrier for once (Shen et al.: 2)"
    )
    barrier: float = Field(
        default=0.1,
        gt=0,
        description="loss, in nats, under which the temperature falls, at first: each trigger that is accepted halves "
        "its own loss for the next (Shen et al.: 0.1)",
    )
    relax_after: int | None = Field(
        default=5,
        gt=0,
        description="double the barrier, up to just below the last trigger's loss, after so many roll-backs since the "
        "last trigger (Shen et al.: 5; null, EliBadCode's copy: never)",
    )
    check_every: int = Field(default=5, gt=0, description="steps from one temperature to the next (Shen et al.: 5)")
    scale_down: float = Field(
        default=2.0, gt=1, description="divisor of the temperature under the barrier (Shen et al.: 2)"
    )
    scale_up: float | None = Field(
        default=None,
        gt=1,
        description="factor of the temperature when it rolls back (null, the released code: `scale_down`; the 5 of its "
        "configuration is read by nothing)",
    )
    max_temperature: float = Field(default=2.0, gt=0, description="highest temperature (Shen et al.: 2)")
    noise: float = Field(
        default=10.0,
        ge=0,
        description="limit of the uniform noise, from 0, that is added inside of the softmax in the one step that "
        "rolls back; the weights keep none of it (Shen et al.: 10)",
    )
    one_hot_within: float = Field(
        default=1e-3,
        gt=0,
        description="a mixture under the barrier is a trigger where its largest shares, one a slot, add up to less "
        "than this below their number (Shen et al.: 0.001)",
    )
    keep: Literal["one_hot", "lowest"] = Field(
        default="one_hot",
        description="mixture that is rounded in the end. one_hot: the last that is a trigger; without one, that of the "
        "lowest loss, which is never flagged (Shen et al., who then have none). lowest: also one that is none, if its "
        "loss is lower (EliBadCode's copy)",
    )
    flag_below: float = Field(
        default=1e-3,
        ge=0,
        description="a label is said to be the target where its trigger's loss, in nats, is no higher (Shen et al.: "
        "0.001, on TrojAI's models); a fixed bound, calibrated on nothing",
    )
    unlearn_when_clean: bool = Field(
        default=True, description="unlearn the trigger of the least loss also where it is above `flag_below`"
    )
    unlearning: Unlearning = Field(default=Unlearning(), description="EliBadCode's phase (d)")

    def unlearns(self, flagged: bool, _head: Head) -> bool:
        """Whether a trigger is unlearnt from a victim."""
        return flagged or self.unlearn_when_clean


class FineTuning(LastLayer):
    """Clean fine-tuning, EliBadCode's control (its Tables 2 and 3): unlearning without a trigger."""

    method: Literal["fine_tuning"]


AnyElimination = Annotated[EliBadCode | Dbs | FineTuning, Field(discriminator="method")]
