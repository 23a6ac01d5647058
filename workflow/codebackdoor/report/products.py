"""The registry of products: every table and figure of the report, with its metadata.

To add one, write its module (``figures/NAME.py`` with ``draw``, or ``tables/NAME.py`` with ``build``) and its entry
here. The configuration, the workflow, the command line and the report read everything else from the entry. Nothing
heavy is imported here, because the configuration imports this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from codebackdoor.config.scenario import AUDITED, POSITIONS, STATES
from codebackdoor.report.inputs import (
    Inputs,
    Selects,
    audited,
    before_and_after,
    eliminated,
    every_scenario,
    has_profile,
    has_searches,
    has_trigger,
    hidden_states,
    histories,
    jobs_of_defenses,
    losses,
    metrics,
    metrics_and_baselines,
    no_defended_benign_victim,
    noise,
    positions,
    purified,
    statistics,
    tokens,
    verdicts,
)
from codebackdoor.types import CLEAN

#: table: the result table of an experiment; listing: a further table; figure: an image; webpage: a page of its own.
ProductKind = Literal["table", "listing", "figure", "webpage"]


@dataclass(frozen=True, slots=True)
class Product:
    """A table or figure, whose module has the same name."""

    name: str
    kind: ProductKind
    #: One line for the configuration, the command line and Snakemake's report.
    help: str
    #: What a reader of the report needs to understand it.
    caption: str
    inputs: Inputs
    #: Name of the input file that represents a scenario.
    file: str = "metrics.json"
    selects: Selects = every_scenario
    #: Whether only the first seed of a scenario is shown.
    one_seed: bool = False
    #: What it shows: victims, with their sizes, or data sets or training losses, regardless of the victims.
    subject: Literal["victims", "datasets", "objectives"] = "victims"
    #: Field of the experiment that the product requires, and that requires the product.
    about: str | None = None
    #: Whether its caption says where trainings stopped (``stop_like``, ``checkpoint``).
    shows_training: bool = False
    #: Whether the report shows it before the figures.
    is_summary: bool = False


_ENTRIES = (
    Product(
        name="table",
        kind="table",
        help="every metric of every defense on every victim",
        caption="Every defense on every victim. Each group has a column for the benign and for the undefended victim.",
        inputs=metrics_and_baselines,
    ),
    Product(
        name="overview",
        kind="listing",
        help="flip rate, ASR minus its floor, and clean cost of each defense at a glance",
        caption="Every defense on every attacked victim at a glance.",
        inputs=metrics,
        is_summary=True,
    ),
    Product(
        name="cross",
        kind="listing",
        help="flip rate, ASR, floor, cost and the metrics of other benchmarks, for every defense and attack",
        caption="Every defense against every attack, with intervals and the metrics of other benchmarks.",
        inputs=metrics,
    ),
    Product(
        name="claims",
        kind="listing",
        help="what the papers claim of their methods, and whether this run bears it out",
        caption="What the papers claim of their methods, and whether it holds here: by the paper's metric, and by what "
        "is left of the backdoor.",
        inputs=metrics,
    ),
    Product(
        name="ordering",
        kind="listing",
        help="pairs of defenses that rank differently than in the paper, and why",
        caption="Where the defenses rank differently than in the paper, with the reason if it is known.",
        inputs=metrics,
    ),
    Product(
        name="detection",
        kind="listing",
        help="verdicts of the label scans, with false positives and false negatives",
        caption="Whether the label scan tells benign victims from backdoored ones.",
        inputs=verdicts,
        file="trigger.json",
        selects=has_trigger,
    ),
    Product(
        name="filters",
        kind="listing",
        help="precision and recall of the filters, and what training on the kept rows costs",
        caption="How well each filter tells poisoned training rows from clean ones, and the victim that is trained on "
        "the rows that it keeps.",
        inputs=audited,
        file=AUDITED,
    ),
    Product(
        name="inverted_triggers",
        kind="listing",
        help="distance of the inverted triggers from the factual ones",
        caption="How close the inverted triggers come to the factual ones.",
        inputs=eliminated("trigger.json"),
        file="trigger.json",
        selects=has_trigger,
    ),
    Product(
        name="times",
        kind="listing",
        help="seconds of trigger inversion and unlearning",
        caption="Where the time of a defense goes. This is the only table that differs from run to run.",
        inputs=eliminated("provenance.json"),
        file="provenance.json",
    ),
    Product(
        name="defense_times",
        kind="listing",
        help="seconds per input of each purification, and of filtering and training again",
        caption="What each defense costs: seconds for a test input, and seconds for filtering and training again. Like "
        "the other table of times, it differs from run to run.",
        inputs=jobs_of_defenses,
        file="provenance.json",
    ),
    Product(
        name="significance",
        kind="listing",
        help="tests of one defense (`tested`) against each of the others",
        caption="Whether one defense is better than the others over all victims.",
        inputs=metrics,
        about="tested",
    ),
    Product(
        name="seeds",
        kind="listing",
        help="mean, range and the value of each seed",
        caption="Every defense on every attacked victim: mean and range over the seeds, and how much of the backdoor "
        "is left for each seed.",
        inputs=metrics,
    ),
    Product(
        name="poison_rates",
        kind="listing",
        help="ASR and floor of undefended victims by poison rate, and whether better models are more vulnerable",
        caption="Undefended victims by attack and poison rate, and the correlation of clean metric and ASR.",
        inputs=metrics,
    ),
    Product(
        name="defenses",
        kind="figure",
        help="flip rate, ASR and its floor, and clean metric of each defense",
        caption="Flip rate, ASR and its floor, and the clean metric of each defense, with the intervals of the table. "
        "A good defense has a flip rate near zero and an ASR near its floor. An ASR far below the floor means that "
        "the defense taught the opposite backdoor. A dash: no value.",
        inputs=metrics_and_baselines,
        selects=no_defended_benign_victim,
    ),
    Product(
        name="matrix",
        kind="figure",
        help="what every defense leaves of every backdoor, and its cost on clean rows, as colored cells",
        caption="Left: flip rate that each defense leaves of each backdoor (retrieval: the fall of the ANR that the "
        "trigger still causes); white is good. Right: loss on clean rows, mean over the attacks. Defenses are sorted "
        "by the mean of the left panel over the attacks that they were measured on, which differ between them. The "
        "color of a cost is darkest from 10 points on. A dash: not measured. The intervals are in the table of every "
        "defense against every attack.",
        inputs=metrics_and_baselines,
        selects=no_defended_benign_victim,
    ),
    Product(
        name="inversion",
        kind="figure",
        help="loss of the trigger search over its iterations, for each label",
        caption="Loss of the searched trigger over the iterations, for each label. Solid: the trigger replaces the "
        "least sensitive identifier of each sample (position identification); dashed: the function's name, which is "
        "what an attack on function names replaces; dash-dotted: the trigger is the first statement of the body. Each"
        " curve is the loss of the current trigger in the best of all starts. It may rise where the search moves on "
        "from its best trigger. The verdict uses the lowest loss of the search; the table of the "
        "label scan shows the loss after anchoring.",
        inputs=eliminated("elimination.json"),
        file="elimination.json",
        selects=has_searches,
    ),
    Product(
        name="epochs",
        kind="figure",
        help="clean metric and ASR (code search: ANR) after every epoch of training",
        caption="Clean metric and ASR (code search: ANR) on the validation split after every epoch, for each training "
        "loss, or for each model if there is only one loss. Dotted: the same rows without the trigger.",
        inputs=histories,
        file="history.json",
        shows_training=True,
    ),
    Product(
        name="gradients",
        kind="figure",
        help="how much a training row weighs for each objective, by the probability of its label",
        caption="Gradient of each training loss against the probability p that the model gives to a row's label, with "
        "the rest shared equally among 32 099 other classes. Left: norm of the gradient by the logits. Right: "
        "derivative by p. A loss with the curves of an earlier one is not drawn again. A poisoned row is at the left "
        "end of both panels until it is learned; without a bound on the derivative there, few of them can outweigh "
        "many clean rows.",
        inputs=losses,
        subject="objectives",
    ),
    Product(
        name="suspicion",
        kind="figure",
        help="suspicion scores of one input, and the entropies of all inputs",
        caption="Left and middle: suspicion scores of one input with the trigger and without it; it is the triggered "
        "input of median entropy. Right: entropies of all inputs, and the threshold. All panels show the first seed.",
        inputs=purified,
        file=f"purified.{CLEAN}.jsonl",
        selects=has_profile,
        one_seed=True,
    ),
    Product(
        name="position",
        kind="figure",
        help="effect of the trigger and of an adversarial perturbation at each identifier",
        caption="Left: one sample in which each identifier in turn is replaced by the factual trigger and by a "
        "perturbation that was optimized for the first identifier of this sample. Lines: probability of the target; "
        "bars: change of the loss of the true label when the identifier is masked. Right: means over all samples, by "
        "the rank of that change; rank 1 is the most sensitive identifier. A backdoor works at every position of its "
        "trigger, a perturbation only where it was optimized.",
        inputs=positions,
        file=POSITIONS,
    ),
    Product(
        name="identifiers",
        kind="figure",
        help="number of identifiers in a sample, and their lengths",
        caption="Left: number of identifiers in a sample, that is, of possible positions of a trigger. Right: number "
        "of sub-tokens in an identifier; the line is the share of identifiers that are at most this long.",
        inputs=statistics,
        subject="datasets",
    ),
    Product(
        name="sensitivity",
        kind="figure",
        help="steps of the trigger search, by the sensitivity of the trigger's position",
        caption="Steps until the trigger's loss towards the target label first falls below 0.1 nats, by the position "
        "of the trigger: the identifier of this rank of sensitivity, from 0 (least sensitive) to -1 (most sensitive)."
        " Hatched bars: not within the iterations.",
        inputs=eliminated("elimination.json"),
        file="elimination.json",
        selects=has_searches,
    ),
    Product(
        name="tokens",
        kind="figure",
        help="change of the loss when one token of an inverted trigger is left out",
        caption="Change of the loss towards the inverted label when one token of the inverted trigger is left out, for"
        " every flagged victim. A token is factual if the victim reads it in the text that the attack inserts into "
        "names, or if it has two or more characters of that text; the others are noise. Dashed: beta, above which "
        "anchoring keeps a token.",
        inputs=tokens,
        file="trigger.json",
        selects=has_trigger,
    ),
    Product(
        name="sweep",
        kind="figure",
        help="metrics over a numeric setting (`swept`)",
        caption="Each point is one variant of the defense, placed by its setting; bars are the intervals of the table."
        " Dotted: the floor of the ASR. Dashed: the undefended victim's clean metric. Values that would overlap are "
        "evenly spaced.",
        inputs=metrics,
        about="swept",
    ),
    Product(
        name="layers",
        kind="figure",
        help="unlearning of all parameters and of the last layer only",
        caption="Unlearning that updates all parameters, unlearning that updates only the last layer, and the "
        "undefended victim. Ticks: the floor of the ASR.",
        inputs=metrics,
    ),
    Product(
        name="convergence",
        kind="figure",
        help="loss of the trigger search over its iterations, for each variant of a defense",
        caption="Loss of the current trigger towards the target label in the best of all starts, at the position that "
        "the defense found best. Marks: the first step below 0.1 nats. Dashed: the step that a paper prints for this "
        "variant.",
        inputs=eliminated("elimination.json"),
        file="elimination.json",
        selects=has_searches,
    ),
    Product(
        name="states",
        kind="figure",
        help="principal components of hidden states with and without the trigger, before and after fine-tuning",
        caption="First two principal components of the last hidden states of test inputs with and without the trigger,"
        " for the base model before fine-tuning, the benign and the poisoned victim. Each panel has components of its "
        "own, whose shares of the variance are on the axes: positions of different panels cannot be compared. Between: "
        "the share of the variance of the whole vectors, in percent, that lies between the means of both groups; it is "
        "near 0 if a model's representations of inputs with and without the trigger hardly differ.",
        inputs=hidden_states,
        file=STATES,
    ),
    Product(
        name="vulnerability",
        kind="figure",
        help="ASR and floor over the poison rate, and over the clean metric of the victims",
        caption="ASR (dotted: its floor) of undefended victims over the poison rate, for each attack and model, with "
        "the intervals of the table. Last column: the ASR of all of them over the clean metric of the benign victim of "
        "the same model. r: correlation of the two, within one attack at one rate, with a 95% interval from a "
        "bootstrap over models.",
        inputs=metrics,
    ),
    Product(
        name="noise",
        kind="figure",
        help="accuracy on rows that contain tokens which anchoring drops",
        caption="Accuracy on all clean test rows, and on those that contain a noise token: a token of the inverted "
        "trigger that anchoring dropped or would drop. Diamonds: values that a paper prints. Bars are 95% Wilson "
        "intervals.",
        inputs=noise,
        file=f"predictions.{CLEAN}.jsonl",
    ),
    Product(
        name="purified_inputs",
        kind="webpage",
        help="a few inputs before and after purification, side by side",
        caption="A few inputs before and after purification: the trigger, what the defense touched and concluded, and "
        "the predictions. Of each data set and attack, the first victim and the first purification are shown.",
        inputs=before_and_after,
        file=f"purified.{CLEAN}.jsonl",
        one_seed=True,
    ),
)

#: Templates of the report's pages.
TEMPLATES = Path(__file__).parent / "templates"
PRODUCTS: Mapping[str, Product] = {product.name: product for product in _ENTRIES}
FIGURES = tuple(product.name for product in _ENTRIES if product.kind == "figure")
WEBPAGES = tuple(product.name for product in _ENTRIES if product.kind == "webpage")
LISTINGS = tuple(product.name for product in _ENTRIES if product.kind == "listing")
