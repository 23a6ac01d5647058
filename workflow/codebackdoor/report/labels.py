"""How names are written for people, in every table and figure the same."""

from __future__ import annotations

from codebackdoor.config.experiments import defenses
from codebackdoor.config.scenario import NONE, Scenario

BENIGN, UNDEFENDED, BASELINE = "Benign", "Undefended", "Baseline"
DASH = "–"

_WORDS = {
    "elibadcode": "EliBadCode",
    "elibadcode_extended": "EliBadCode, extended",
    "codepurify": "CodePurify",
    "onion": "ONION",
    "dbs": "DBS",
    "attdef": "AttDef",
    "similarity": "Similarity filter",
    "fine_tuning": "Clean fine-tuning",
    "cross_entropy": "Cross entropy",
    "dece": "DeCE",
    "codebert": "CodeBERT",
    "codet5": "CodeT5",
    "unixcoder": "UniXcoder",
    "starcoder": "StarCoder",
}

#: Metrics in the order of the tables; the first two groups are those of clean rows.
METRICS = {
    "accuracy": "Accuracy",
    "f1": "F1",
    "mrr": "MRR",
    "exact_match": "Exact match",
    "bleu": "BLEU-4",
    "bleu_sentence": "BLEU-4, sentences",
    "codebleu": "CodeBLEU",
    "touched": "Clean inputs touched",
    "asr": "ASR",
    "floor": "ASR floor",
    "asr_minus_floor": "ASR − floor",
    "flip_rate": "Flip rate",
    "trigger_effect": "Trigger effect",
    "anr": "ANR",
    "anr_without": "ANR without the trigger",
    "anr_drop": "ANR drop",
    "anr_position": "ANR by position",
    "anr_position_without": "ANR by position, without the trigger",
    "anr_top_half": "ANR of the top half",
    "anr_top_half_without": "ANR of the top half, without the trigger",
    "located": "Trigger located",
}
#: The one that stands for a clean test set where there is room for one.
CLEAN_METRIC = {
    "defect_detection": "accuracy",
    "clone_detection": "f1",
    "code_search": "mrr",
    "code_repair": "exact_match",
}
#: Of these, a data set has the value that needs no model.
CLEAN_METRICS = ("accuracy", "f1", "mrr", "exact_match")
#: Tasks in which a victim predicts a label: ASR and label scans are about them.
LABELLED = ("defect_detection", "clone_detection")


#: What stands beside every victim of a task and needs no model.
BASELINES = {
    "defect_detection": "a bag of token n-grams, logistic regression",
    "clone_detection": "the overlap of tokens, best threshold of the training split",
    "code_search": "the cosine of TF-IDF vectors",
    "code_repair": "the input, copied",
}


def word(name: str) -> str:
    """A method or variant as it is written: known names in their own spelling, others with spaces."""
    for known in sorted(_WORDS, key=len, reverse=True):
        if name == known or name.startswith(f"{known}_"):
            rest = name[len(known) :].replace("_", " ").strip()
            return f"{_WORDS[known]} ({rest})" if rest else _WORDS[known]
    return name.replace("_", " ")


def defense(scenario: Scenario) -> str:
    """What stands on a scenario's path beside victim and attack: a column of the tables."""
    return " + ".join(word(name) for name in defenses(scenario)) or UNDEFENDED


def column(scenario: Scenario) -> str:
    """The undefended benign victim has a column of its own; a defended one stands with its defense."""
    benign = scenario.attack == NONE and not defenses(scenario)
    return BENIGN if benign else defense(scenario)


def attack(scenario: Scenario) -> str:
    if scenario.attack == NONE:
        return "no attack"
    return f"{scenario.attack.replace('_', ' ')} at {rate(float(scenario.rate))}"


def group(scenario: Scenario) -> str:
    """What was trained, on what, with which attack, whatever the seed."""
    return f"{trained(scenario)} · {attack(scenario)}"


def trained(scenario: Scenario) -> str:
    """What was trained, on what."""
    return f"{word(scenario.dataset)} · {word(scenario.model)}"


def victim(scenario: Scenario) -> str:
    """The same with the seed, where it is another than 1."""
    return group(scenario) + (f", seed {scenario.seed}" if scenario.seed != "1" else "")


def percent(value: float) -> str:
    """A share in percent with one digit after the point; -0 is 0."""
    return f"{round(100 * value, 1) + 0:.1f}"


def rate(value: float) -> str:
    """A poison rate in percent, without digits that say nothing: ``5 %``, ``0.1 %``."""
    return f"{100 * value:g} %"


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{round(100 * value, 1) + 0:+.1f}"


def seconds(value: float) -> str:
    """``22m40s``, and below a minute ``4.2s``."""
    if value < 60:
        return f"{value:.1f}s"
    return f"{round(value) // 60}m{round(value) % 60:02d}s"


def probability(value: float) -> str:
    """A p-value: three digits after the point, or its power of ten."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"
