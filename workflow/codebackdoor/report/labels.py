"""Labels of names and formats of numbers, for all tables and figures."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from codebackdoor.config.base import Settings, models_in, tag_of
from codebackdoor.config.datasets import DATASETS
from codebackdoor.config.experiments import defenses
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.config.sections import SECTIONS
from codebackdoor.config.study import Config
from codebackdoor.files import read_json

BENIGN, UNDEFENDED, BASELINE = "Benign", "Undefended", "Baseline"
#: Why a value may be missing where a defense was run.
NO_FLIP_RATE = "there is no flip rate if no row of the attacked test set is predicted correctly without the trigger"
DASH = "–"
#: Labels of variants that are not their method's label plus a suffix: of single variants, or of all with a prefix.
VARIANTS = Path(__file__).with_name("variants.json")

#: Metrics in the order of the tables.
METRICS = {
    "accuracy": "Accuracy",
    "f1": "F1",
    "mrr": "MRR",
    "exact_match": "Exact match",
    "pass_1": "pass@1",
    "bleu": "BLEU-4",
    "bleu_rows": "BLEU-4, mean of rows",
    "bleu_sentence": "BLEU-4, sentences",
    "codebleu": "CodeBLEU",
    "codebleu_released": "CodeBLEU, as released",
    "touched": "Clean inputs touched",
    "asr": "ASR",
    "floor": "ASR floor",
    "asr_minus_floor": "ASR − floor",
    "flip_rate": "Flip rate",
    "trigger_effect": "Trigger effect",
    "robust_accuracy": "Robust accuracy",
    "anr": "ANR",
    "anr_without": "ANR without the trigger",
    "anr_drop": "ANR drop",
    "anr_position": "ANR by position",
    "anr_position_without": "ANR by position, without the trigger",
    "anr_top_half": "ANR of the top half",
    "anr_top_half_without": "ANR of the top half, without the trigger",
    "located": "Trigger located",
    "located_exactly": "Trigger located exactly",
    "detection_auroc": "AUROC of the suspicion",
    "tpr_at_fpr_1": "TPR at 1% FPR",
    "tpr_at_fpr_5": "TPR at 5% FPR",
}
#: The metrics of clean rows that represent the tasks; each has a baseline without a model.
CLEAN_METRICS = frozenset(settings.clean_metric for settings in DATASETS.values())


@cache
def _labels() -> dict[str, str]:
    """Labels by name; if two methods share a name, the one that acts later on a scenario's path counts."""
    kinds = (model for section in SECTIONS.values() for model in models_in(Config.model_fields[section].annotation))
    labels = {str(tag_of(kind)): kind.label for kind in kinds if issubclass(kind, Settings) and kind.label}
    return {**read_json(VARIANTS), **labels}


def word(name: str) -> str:
    """The label of a method or variant: that of the longest labeled prefix of its name, then the rest of the name."""
    labels = _labels()
    for prefix in sorted(labels, key=len, reverse=True):
        if name == prefix or name.startswith(f"{prefix}_"):
            label, suffix = labels[prefix], name[len(prefix) :].replace("_", " ").strip()
            if not suffix:
                return label
            return f"{label[:-1]}, {suffix})" if label.endswith(")") else f"{label} ({suffix})"
    return name.replace("_", " ")


def defense(scenario: Scenario) -> str:
    """The defenses of a scenario: a column of the tables."""
    return " + ".join(word(name) for name in defenses(scenario)) or UNDEFENDED


def column(scenario: Scenario) -> str:
    """The column of a scenario in the tables.

    The undefended benign victim has its own column; defended ones are in the column of their defense.
    """
    benign = scenario.attack == NONE and not defenses(scenario)
    return BENIGN if benign else defense(scenario)


def attack(scenario: Scenario) -> str:
    if scenario.attack == NONE:
        return "no attack"
    return f"{word(scenario.attack)} at {rate(float(scenario.rate))}"


def group(scenario: Scenario) -> str:
    """Data set, model and attack, without the seed."""
    return f"{trained(scenario)} · {attack(scenario)}"


def trained(scenario: Scenario) -> str:
    """Data set and model."""
    return f"{word(scenario.dataset)} · {word(scenario.model)}"


def victim(scenario: Scenario) -> str:
    """Data set, model, attack, and the seed unless it is 1."""
    return group(scenario) + (f", seed {scenario.seed}" if scenario.seed != "1" else "")


def percent(value: float) -> str:
    """A share in percent with one digit after the point; -0 is 0."""
    return f"{round(100 * value, 1) + 0:.1f}"


def rate(value: float) -> str:
    """A poison rate in percent, without trailing zeros: ``5%``, ``0.1%``."""
    return f"{100 * value:g}%"


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{round(100 * value, 1) + 0:+.1f}"


def seconds(value: float) -> str:
    """``22m40s``, below a minute ``4.2s``, and from an hour on ``5h48m``."""
    if value < 60:
        return f"{value:.1f}s"
    if round(value) >= 3600:
        return f"{round(value / 60) // 60}h{round(value / 60) % 60:02d}m"
    return f"{round(value) // 60}m{round(value) % 60:02d}s"


def probability(value: float) -> str:
    """A p-value: three decimals, or its power of ten."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"
