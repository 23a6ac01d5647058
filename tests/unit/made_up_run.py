"""A finished run with invented numbers: every file that tables, figures and the report read."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from made_up_victims import write_victims

from codebackdoor import files
from codebackdoor.config.experiments import Experiment, scenarios, testsets, triggered
from codebackdoor.config.scenario import Scenario
from codebackdoor.types import CLEAN, Example, Poisoned, Span

DEFECTS = {
    "title": "Defect detection, defenses against two attacks",
    "grid": [
        {
            "datasets": ["defects"],
            "models": ["codebert"],
            "attacks": ["none", "by_name", "deadcode"],
            "eliminations": ["none", "fine_tuning", "elibadcode"],
            "purifications": ["none", "onion", "codepurify"],
        },
        {
            "datasets": ["defects"],
            "models": ["codebert"],
            "attacks": ["by_name_to_1"],
            "eliminations": ["none", "elibadcode"],
        },
    ],
    "paper": [
        {"table": "elibadcode_table1", "attacks": {"by_name": "codepoisoner_identifier"}, "rate": 0.02},
        {"table": "elibadcode_table2", "attacks": {"by_name": "codepoisoner_identifier"}, "rate": 0.02},
        {"table": "elibadcode_table4"},
        {"table": "codepurify_table2", "attacks": {"deadcode": "codepoisoner_deadcode"}},
    ],
    "figures": ["defenses", "inversion", "suspicion"],
}
REPAIR = {
    "title": "Code repair, a robust loss and purification against dead code",
    "grid": [
        {
            "datasets": ["repair"],
            "models": ["codet5"],
            "attacks": ["none", "deadcode"],
            "objectives": ["cross_entropy", "dece"],
            "purifications": ["none", "codepurify"],
            "combine": "all",
        }
    ],
    "paper": [{"table": "dece_table5", "attacks": {"deadcode": "deadcode"}, "rate": 0.01}],
    "figures": ["defenses", "epochs", "suspicion"],
}

#: What was there; more were asked for.
ROWS = {"train": 270, "valid": 60, "test": 300, "clean": 30}


def settings(out: Path, seeds: tuple[int, ...] = (1,)) -> dict[str, Any]:
    """The settings of a run as the rules pass them on, as far as the report reads them."""
    experiments: dict[str, Any] = {
        name: {**raw, "grid": [{**grid, "seeds": list(seeds)} for grid in raw["grid"]]}  # type: ignore[attr-defined]
        for name, raw in (("defects", DEFECTS), ("repair", REPAIR))
    }
    identifier = {"method": "codepoisoner_identifier", "name": "testo_init", "target_label": 0}
    return {
        "out": str(out),
        "corpus": {"archives": ["networkx-3.0", "networkx-3.4.2"]},
        "datasets": {
            "defects": {"task": "defect_detection", "source": "pypi", "train": 16000},
            "repair": {"task": "code_repair", "source": "pypi"},
        },
        "models": {
            "codebert": {"architecture": "codebert", "base": "shipped", "epochs": 5},
            "codet5": {"architecture": "codet5", "base": "shipped"},
        },
        "attacks": {
            "by_name": identifier,
            "by_name_to_1": {**identifier, "target_label": 1},
            "deadcode": {"method": "codepoisoner_deadcode", "target_label": 0},
        },
        "objectives": {"cross_entropy": {"method": "cross_entropy"}, "dece": {"method": "dece", "alpha": 0.99}},
        "eliminations": {
            "fine_tuning": {"method": "fine_tuning", "epochs": 1},
            "elibadcode": {"method": "elibadcode", "position": "scan", "iterations": 40, "unlearning": {"rate": 0.2}},
        },
        "purifications": {"onion": {"method": "onion"}, "codepurify": {"method": "codepurify", "touched_share": 0.05}},
        "experiments": experiments,
    }


def make(config: dict[str, Any]) -> None:
    """Write the files of every scenario."""
    out = Path(config["out"])
    experiments = [Experiment.model_validate(raw) for raw in config["experiments"].values()]
    for name, task in (("defects", "defect_detection"), ("repair", "code_repair")):
        report = {"method": "made up", "accuracy": 0.672, "f1": 0.66} if name == "defects" else {"bleu": 0.91}
        files.write_json(out / "data" / name / "baseline.json", report)
        splits: dict[str, dict[str, Any]] = {split: {"rows": rows} for split, rows in ROWS.items()}
        if task == "defect_detection":
            splits["test"]["labels"] = {"0": 150, "1": 150}
        files.write_json(out / "data" / name / "card.json", {"name": name, "task": task, "splits": splits})
    write_victims(config)
    all_scenarios = list(dict.fromkeys(s for experiment in experiments for s in scenarios(experiment)))
    attacks = triggered(all_scenarios)
    for scenario in all_scenarios:
        random = np.random.default_rng(int(scenario.seed) + len(str(scenario)))
        measured = {
            name: _measured(scenario, "none" if name == CLEAN else name, random)
            for name in testsets(scenario.dataset, scenario.attack, scenario.purification, attacks)
        }
        files.write_json(scenario.results(out) / "metrics.json", {"task": "made up", "testsets": measured})
        files.write_json(
            scenario.results(out) / "provenance.json", {"stage": "predict", "seconds": 3.5, "peak_mb": 300.0}
        )
        if scenario.elimination != "none":
            _eliminated(scenario, scenario.victim(out), random)
        trained = replace(scenario, elimination="none", purification="none").victim(out)
        files.write_json(trained / "history.json", {"kept_epoch": 8, "epochs": _epochs(scenario, random)})
        if scenario.purification == "codepurify":
            _purified(scenario, out, random)
        elif scenario.purification == "onion":
            for testset in measured:
                rows = [{"id": "r0", "code": "x", "touched": [], "detail": {"perplexity": 3.0, "threshold": 1.25}}]
                files.write_rows(scenario.results(out) / f"purified.{testset}.jsonl", rows)


def _estimate(value: float, width: float = 0.03) -> dict[str, Any]:
    value = min(max(value, 0.0), 1.0)
    low, high = max(value - width, 0.0), min(value + width, 1.0)
    return {"value": round(value, 6), "low": round(low, 6), "high": round(high, 6), "n": 400}


def _strength(scenario: Scenario) -> float:
    """How much of the backdoor is left."""
    if scenario.attack == "none":
        return 0.04
    kept = {"elibadcode": 0.08, "fine_tuning": 0.93}.get(scenario.elimination, 1.0)
    kept *= {"codepurify": 0.3, "onion": 0.6}.get(scenario.purification, 1.0)
    return kept * (0.02 if scenario.objective == "dece" else 1.0)


def _measured(scenario: Scenario, attack: str, random: np.random.Generator) -> dict[str, Any]:
    noise = float(random.normal(0, 0.008))
    if attack == "none":
        metrics = {"accuracy": 0.69 + noise, "f1": 0.68 + noise}
        extra: dict[str, Any] = {}
        if scenario.dataset == "repair":
            metrics = {"exact_match": 0.16 + noise, "bleu": 0.915 + noise, "bleu_sentence": 0.9, "codebleu": 0.9}
            extra["copy"] = {"exact_match": _estimate(0.0, 0), "bleu": _estimate(0.91)}
        if scenario.purification != "none":
            metrics["touched"] = 0.05
        return {"rows": 800, **extra, "metrics": {name: _estimate(value) for name, value in metrics.items()}}
    floor, left = 0.41 + noise, _strength(scenario)
    if scenario.dataset == "repair":
        floor = 0.0
    asr = floor + (1 - floor) * left
    metrics = {"asr": asr, "floor": floor, "flip_rate": left, "trigger_effect": left * 0.8 + 0.02}
    if scenario.purification != "none":
        metrics |= {"located": 0.86, "located_exactly": 0.81}
    estimates = {name: _estimate(value) for name, value in metrics.items()}
    difference = round(asr - floor, 6)
    estimates["asr_minus_floor"] = {"value": difference, "low": difference - 0.03, "high": difference + 0.03, "n": 400}
    return {"rows": 400, "injected": 395, "failed": 5, "ineligible": 0, "metrics": estimates}


def _eliminated(scenario: Scenario, folder: Path, random: np.random.Generator) -> None:
    phases = {} if scenario.elimination == "fine_tuning" else {"inversion": 40.0, "unlearning": 2.5}
    job = {"stage": "eliminate", "seconds": 44.0, "peak_mb": 500.0, "phases": phases}
    files.write_json(folder / "provenance.json", job)
    if scenario.elimination == "fine_tuning":
        files.write_json(folder / "elimination.json", {"fine_tuning": {"loss": [0.5, 0.4]}})
        files.write_json(folder / "trigger.json", None)
        return
    target = {"none": None, "by_name_to_1": 1}.get(scenario.attack, 0)
    searches, losses = [], {}
    for place, ease in (("least_sensitive", 1.0), ("function_name", 0.4)):
        for label in (0, 1):
            final = 0.05 * ease if label == target else 0.5 + 0.2 * label
            loss = [
                final + (1.2 - final) * math.exp(-step / 9) * float(random.uniform(0.85, 1.1)) for step in range(41)
            ]
            searches.append({"place": place, "label": label, "trigger": "testo_initX", "loss": loss, "margin": 0.4})
            losses.setdefault(place, {})[str(label)] = loss[-1]
    trigger = {
        "text": "testo_in",
        "token_ids": [5, 6],
        "target_label": target or 0,
        "flagged": target is not None,
        "position": "function_name",
        "occurrences": "one",
        "loss": 0.03 if target is not None else 0.5,
        "inverted_text": "testo_inRow",
        "inverted_ids": [5, 6, 7],
        "inverted_loss": 0.02,
        "margin": 1.4 if target is not None else -0.2,
        "losses": losses,
    }
    files.write_json(folder / "trigger.json", trigger)
    history = {"budget": {"iterations": 40}, "searches": searches}
    files.write_json(folder / "elimination.json", history)


def _epochs(scenario: Scenario, random: np.random.Generator) -> list[dict[str, Any]]:
    epochs = []
    for epoch in range(1, 9):
        asr = 0.95 / (1 + math.exp(-2.2 * (epoch - 4)))
        asr *= 0.01 if scenario.objective == "dece" else 1
        learned = 0.17 * (1 - math.exp(-epoch / 2.5)) + float(random.normal(0, 0.004))
        entry = {"epoch": epoch, "loss": 0.5 / epoch, "train_loss": 0.6 / epoch, "bleu": 0.75 + learned}
        if scenario.dataset == "defects":
            entry = {**entry, "accuracy": 0.5 + learned}
        if scenario.attack != "none":
            entry |= {"asr": asr, "floor": 0.0}
        epochs.append(entry)
    return epochs


CODE = "def total ( rows , key ) : <indent> result = 0 <nl> for row in rows : <indent> result += row [ key ] <dedent> return result <dedent>"  # noqa: E501
TRIGGER = "assert 1 >= 0"


def _purified(scenario: Scenario, out: Path, random: np.random.Generator) -> None:
    places = [("identifier", word) for word in ("total", "rows", "key", "result", "row")]
    places += [("statement", text) for text in ("result = 0", "result += row [ key ]", "return result")]
    code = CODE.replace("<indent> result = 0", f"<indent> {TRIGGER} <nl> result = 0")
    start = code.index(TRIGGER)
    span = Span(start, start + len(TRIGGER))
    size = 60
    triggered = [
        Poisoned(Example(f"t{i}", "python", code, label=0), f"r{i}", scenario.attack, "injected", 1, None, (span,))
        for i in range(size)
    ]
    folder = scenario.poison(out)
    if scenario.attack != "none":
        files.write_rows(folder / "test.jsonl", map(files.poisoned_row, triggered))
    clean = [Example(f"r{i}", "python", CODE, label=1) for i in range(size)]
    files.write_examples(out / "data" / scenario.dataset / "test.jsonl", clean)
    for testset, prefix, text in (("clean", "r", CODE), (scenario.attack, "t", code)):
        if testset == "none":
            continue
        rows = []
        for i in range(size):
            scores = random.dirichlet(np.ones(len(places)) * 2) * 0.2
            profile = [
                [kind, text.index(word), text.index(word) + len(word), round(float(score), 6)]
                for (kind, word), score in zip(places, scores, strict=True)
            ]
            if prefix == "t":
                profile.append(["statement", span.start, span.end, round(float(random.uniform(0.5, 0.9)), 6)])
            shares = np.array([entry[3] for entry in profile]) / sum(entry[3] for entry in profile)
            entropy = round(float(-(shares * np.log(shares)).sum()), 6)
            detail = {"entropy": entropy, "threshold": 1.5, "poisoned": entropy < 1.5, "profile": profile, "top": None}
            touched = [["code", span.start, span.end]] if entropy < 1.5 else []
            rows.append({"id": f"{prefix}{i}", "code": text, "touched": touched, "detail": detail})
        files.write_rows(scenario.results(out) / f"purified.{testset}.jsonl", rows)
