"""A finished run over three tasks and many variants of one defense: what the further tables and figures read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from made_up_victims import write_victims
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from codebackdoor import files
from codebackdoor.config.experiments import Experiment, scenarios, testsets, triggered
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.types import CLEAN, Example

TASKS = {"defects": "defect_detection", "clones": "clone_detection", "search": "code_search"}
ATTACKS = {
    "by_name": {"method": "codepoisoner_identifier", "name": "testo_init"},
    "badcode": {"method": "badcode", "trigger": "rb", "place": "end"},
    "afraidoor": {"method": "afraidoor"},
}
BETA = 0.15
RATES = (0.05, 0.2, 0.5)
RANKS = (0, 1, -1)
GRID = {"datasets": ["defects"], "models": ["codebert"], "attacks": ["by_name"], "rates": [0.02]}
DASH = {"dataset": "search", "elimination": "dbs", "reason": "it needs all target labels"}
PAPER = {name: name for name in ("badcode", "afraidoor")} | {"by_name": "codepoisoner_identifier"}

EXPERIMENTS: dict[str, dict[str, Any]] = {
    "all": {
        "title": "All of them",
        "grid": [
            {
                **GRID,
                "datasets": list(TASKS),
                "models": ["codebert", "codet5"],
                "attacks": ["none", *ATTACKS],
                "eliminations": ["none", "dbs", "elibadcode"],
                "purifications": ["none", "onion"],
            }
        ],
        "paper": [{"table": f"elibadcode_table{number}", "attacks": PAPER} for number in (1, 6, 9)],
        "tables": ["overview", "ordering", "detection", "inverted_triggers", "times", "significance"],
        "tested": "elibadcode",
        "figures": ["defenses", "tokens", "convergence"],
        "dashes": [DASH],
        "differences": [{"dataset": "clones", "purification": "onion", "reason": "it reads pairs"}],
    },
    "ablation": {
        "title": "Ablation",
        "grid": [{**GRID, "eliminations": ["none", "elibadcode", "no_position", "no_anchoring"]}],
        "paper": [
            {
                "table": "elibadcode_table5",
                "attacks": PAPER,
                "defenses": {
                    "no_position": "elibadcode_without_position",
                    "no_anchoring": "elibadcode_without_anchoring",
                },
            }
        ],
        "figures": ["convergence", "noise", "position", "identifiers"],
    },
    "rates": {
        "title": "Injection rates",
        "grid": [
            {
                **GRID,
                "datasets": ["defects", "search"],
                "attacks": ["by_name", "badcode"],
                "eliminations": ["none", *(f"rate_{index}" for index in range(len(RATES)))],
            }
        ],
        "swept": "unlearning.rate",
        "figures": ["sweep"],
    },
    "layers": {
        "title": "Layers",
        "grid": [{**GRID, "models": ["codebert", "codet5"], "eliminations": ["none", "elibadcode", "all_layers"]}],
        "figures": ["layers"],
    },
    "ranks": {
        "title": "Ranks",
        "grid": [{**GRID, "eliminations": ["none", *(f"rank_{index}" for index in range(len(RANKS)))]}],
        "figures": ["sensitivity"],
    },
}


def settings(out: Path) -> dict[str, Any]:
    """The settings as the rules pass them on, as far as the report reads them."""
    last = {"layers": "last", "rate": 0.2}
    elibadcode = {"method": "elibadcode", "position": "least_sensitive", "beta": BETA, "unlearning": last}
    swept = {f"rate_{index}": {**elibadcode, "unlearning": {**last, "rate": rate}} for index, rate in enumerate(RATES)}
    ranked = {f"rank_{index}": {**elibadcode, "position": "rank", "rank": rank} for index, rank in enumerate(RANKS)}
    return {
        "out": str(out),
        "datasets": {name: {"task": task} for name, task in TASKS.items()},
        "models": {name: {"architecture": name, "base": "shipped"} for name in ("codebert", "codet5")},
        "attacks": {name: {**attack, "target_label": 0, "target_word": "file"} for name, attack in ATTACKS.items()},
        "objectives": {"cross_entropy": {"method": "cross_entropy"}},
        "eliminations": {
            "elibadcode": elibadcode,
            "dbs": {"method": "dbs"},
            "no_position": {**elibadcode, "position": "function_name"},
            "no_anchoring": {**elibadcode, "beta": 0.0},
            "all_layers": {**elibadcode, "unlearning": {**last, "layers": "all"}},
            **swept,
            **ranked,
        },
        "purifications": {"onion": {"method": "onion"}},
        "experiments": {
            name: Experiment.model_validate(experiment).model_dump(mode="json")
            for name, experiment in EXPERIMENTS.items()
        },
    }


def make(config: dict[str, Any]) -> None:
    """Write the files of every scenario."""
    out = Path(config["out"])
    all_scenarios = [
        scenario for raw in config["experiments"].values() for scenario in scenarios(Experiment.model_validate(raw))
    ]
    attacks = triggered(all_scenarios)
    write_victims(config)
    for dataset in {scenario.dataset for scenario in all_scenarios}:
        folder = out / "data" / dataset
        files.write_json(folder / "baseline.json", {})
        splits = {split: {"rows": 10} for split in ("train", "valid", "test", "clean")}
        files.write_json(folder / "card.json", {"name": dataset, "splits": splits})
        statistics = {
            "identifiers_per_function": [[value, 40 - 3 * value] for value in range(1, 13)],
            "identifier_lengths": [[1, 500], [2, 300], [3, 120], [5, 40], [6, 30], [9, 9], [31, 1]],
        }
        for model in config["models"]:
            files.write_json(folder / f"statistics.{model}.json", statistics)
        rows = [
            Example(f"r{i}", "python", f"def f{i} ( x ) : return noisy" if i < 4 else "x", label=1) for i in range(10)
        ]
        files.write_examples(folder / "test.jsonl", rows)
    words = {word: index for index, word in enumerate(("[UNK]", "noisy", "x", "def"))}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    for scenario in dict.fromkeys(all_scenarios):
        names = testsets(scenario.dataset, scenario.attack, scenario.purification, attacks)
        measured = {name: {"rows": 100, "metrics": _metrics(scenario, name)} for name in names}
        files.write_json(scenario.results(out) / "metrics.json", {"testsets": measured})
        files.write_json(
            scenario.results(out) / "provenance.json", {"stage": "predict", "seconds": 3.5, "peak_mb": 300.0}
        )
        predictions = [{"id": f"r{i}", "confidence": 0.9, "label": int(i >= _wrong(scenario))} for i in range(10)]
        files.write_rows(scenario.results(out) / f"predictions.{CLEAN}.jsonl", predictions)
        if scenario.purification != NONE:
            touched = {"id": "r0", "code": "x", "touched": [], "detail": {"threshold": 1.25}}
            files.write_rows(scenario.results(out) / f"purified.{CLEAN}.jsonl", [touched])
        if scenario.elimination != NONE:
            _eliminated(config, scenario, out)
        elif scenario.purification == NONE:
            scenario.victim(out).mkdir(parents=True, exist_ok=True)
            tokenizer.save(str(scenario.victim(out) / "tokenizer.json"))


def _wrong(scenario: Scenario) -> int:
    return {"none": 1, "no_anchoring": 4}.get(scenario.elimination, 2)


def left(scenario: Scenario) -> float:
    """How much of the backdoor is left: other on every victim."""
    if scenario.attack == NONE:
        return 0.02
    more = 0.01 * (
        list(ATTACKS).index(scenario.attack)
        + 3 * list(TASKS).index(scenario.dataset)
        + 10 * (scenario.model == "codet5")
    )
    defended = {"elibadcode": 0.0, "dbs": 0.4, "no_position": 0.05}.get(scenario.elimination, 0.1)
    if scenario.elimination == NONE:
        defended = 0.5 if scenario.purification != NONE else 0.8
    return defended + more


def _metrics(scenario: Scenario, testset: str) -> dict[str, Any]:
    search = scenario.dataset == "search"
    if testset == CLEAN:
        value = 0.8 - 0.02 * (scenario.elimination == "elibadcode")
        return {"mrr": _estimate(value)} if search else {"accuracy": _estimate(value), "f1": _estimate(value)}
    if search:
        return {
            "anr": _estimate(0.25 - 0.2 * left(scenario)),
            "anr_without": _estimate(0.25),
            "anr_drop": _estimate(0.2 * left(scenario)),
        }
    floor = 0.2
    rates = {"asr": floor + (1 - floor) * left(scenario), "floor": floor, "flip_rate": left(scenario)}
    return {name: _estimate(value) for name, value in rates.items()} | {
        "asr_minus_floor": _estimate((1 - floor) * left(scenario))
    }


def _estimate(value: float) -> dict[str, Any]:
    return {"value": value, "low": max(value - 0.03, 0), "high": min(value + 0.03, 1), "n": 100}


def _eliminated(config: dict[str, Any], scenario: Scenario, out: Path) -> None:
    folder, variant = scenario.victim(out), config["eliminations"][scenario.elimination]
    flagged = scenario.attack != NONE or (scenario.elimination == "dbs" and scenario.model == "codet5")
    trigger = {
        "text": "testo_init",
        "target_label": 0 if scenario.dataset != "clones" else 1,
        "flagged": flagged,
        "position": "least_sensitive",
        "loss": 0.05,
        "inverted_text": "testo_init" if variant["method"] == "dbs" else "testo_initnoisy",
        "inverted_ids": [0, 1, 2],
        "inverted_loss": 0.04,
        "margin": None,
    }
    if scenario.dataset == "search":
        trigger["target_word"] = "open File" if scenario.model == "codebert" else "profile"
    files.write_json(folder / "trigger.json", trigger)
    # success after 10 steps, later at sensitive places, and never at the most sensitive one
    after = {0: 10, 1: 30, -1: 200}[variant.get("rank", 0)] + 20 * (variant.get("position") == "function_name")
    loss = [0.9 * math.exp(-step / after) if step < after else 0.05 for step in range(61)]
    without = [["_rb" if scenario.attack == "badcode" else "testo", 0.9], ["_init", 0.5], [" noisy", 0.1]]
    without += [["file", 0.3]] if scenario.dataset == "search" else []
    searches = [
        {"place": "least_sensitive", "label": label, "loss": loss if label == 0 else [1.0] * 61} for label in (0, 1)
    ]
    files.write_json(folder / "elimination.json", {"searches": searches, "anchoring": {"without": without}})
    phases = {"inversion": 10.0 + int(scenario.seed), "unlearning": 2.0}
    job = {"phases": phases, "device": {"name": "a processor"}, "threads": 1, "stage": "eliminate", "seconds": 13.0}
    files.write_json(folder / "provenance.json", {**job, "peak_mb": 1.0})
    if scenario.attack != NONE:
        files.write_json(
            scenario.results(out) / "positions.json", {"samples": [_probed(number) for number in range(5)]}
        )


def _probed(number: int) -> dict[str, Any]:
    places = [
        {
            "name": f"name_{index}",
            "change": 0.5 / (index + 1),
            "trigger": 0.98,
            "perturbation": max(0.9 - 0.2 * index, 0.1),
        }
        for index in range(4 + number)
    ]
    return {
        "id": f"r{number}",
        "target": 0,
        "before": 0.1,
        "trigger": "testo_init",
        "perturbation": "evalRaught",
        "positions": places,
    }
