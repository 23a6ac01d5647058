"""What an experiment expands to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from codebackdoor.config import experiments
from codebackdoor.config.experiments import Experiment, cells, defenses, scenarios
from codebackdoor.config.products import inputs
from codebackdoor.config.scenario import Scenario


def experiment(*grids: dict[str, Any], **more: Any) -> Experiment:
    base = {"datasets": ["defects"], "models": ["codebert"], "attacks": ["a"]}
    return Experiment.model_validate({"title": "t", "grid": [base | grid for grid in grids or ({},)], **more})


def test_the_benign_and_the_undefended_victim_are_always_there() -> None:
    planned = scenarios(experiment({"eliminations": ["elibadcode"]}))
    assert Scenario("defects", "codebert") in planned
    assert Scenario("defects", "codebert", "a", "0.05") in planned
    assert Scenario("defects", "codebert", "a", "0.05", elimination="elibadcode") in planned
    assert len(planned) == 3


def test_each_defense_stands_alone_unless_all_are_combined() -> None:
    grid = {"eliminations": ["none", "e"], "purifications": ["none", "p"], "objectives": ["cross_entropy", "dece"]}
    separate = [defenses(scenario) for scenario in scenarios(experiment(grid)) if scenario.attack == "a"]
    assert separate == [(), ("dece",), ("e",), ("p",)]
    combined = [
        defenses(scenario) for scenario in scenarios(experiment({**grid, "combine": "all"})) if scenario.attack == "a"
    ]
    assert combined == [(), ("dece",), ("e",), ("p",), ("dece", "e"), ("dece", "p"), ("e", "p"), ("dece", "e", "p")]


def test_none_among_the_attacks_defends_the_benign_victim_too() -> None:
    grid = {"purifications": ["none", "p"]}
    benign = [
        scenario for scenario in scenarios(experiment({**grid, "attacks": ["none", "a"]})) if scenario.attack == "none"
    ]
    assert [scenario.purification for scenario in benign] == ["none", "p"]
    assert {scenario.rate for scenario in benign} == {"0"}
    assert len([scenario for scenario in scenarios(experiment(grid)) if scenario.attack == "none"]) == 1


def test_grids_share_scenarios_and_seeds_multiply_them() -> None:
    both = experiment({"seeds": [1, 2]}, {"seeds": [2], "rates": [0.01, 0.05]})
    planned = scenarios(both)
    assert len(planned) == len(set(planned)) == 5
    assert {scenario.rate for scenario in planned if scenario.seed == "2"} == {"0", "0.01", "0.05"}


def test_a_dash_is_a_cell_that_is_not_run() -> None:
    grid = {"datasets": ["defects", "repair"], "purifications": ["none", "oseql"]}
    spec = experiment(grid, dashes=[{"dataset": "repair", "purification": "oseql"}])
    left_out = set(cells(spec)) - set(scenarios(spec))
    assert left_out == {Scenario("repair", "codebert", "a", "0.05", purification="oseql")}
    with pytest.raises(ValidationError, match="empty selection"):
        experiment(grid, dashes=[{}])


def test_benign_victims_are_asked_about_every_attack_of_their_experiments() -> None:
    first = experiment({"attacks": ["a", "b"], "rates": [0.01, 0.05]})
    second = experiment({"attacks": ["c"]})
    third = experiment({"attacks": ["d"], "datasets": ["repair"]})
    attacks = experiments.triggered(scenario for spec in (first, second, third) for scenario in scenarios(spec))
    assert attacks == {"defects": {"a": "0.01", "b": "0.01", "c": "0.05"}, "repair": {"d": "0.05"}}
    assert experiments.testsets("defects", "none", "none", attacks) == ("clean", "a", "b", "c")
    assert experiments.testsets("defects", "none", "onion", attacks) == ("clean",)
    assert experiments.testsets("defects", "a", "none", attacks) == ("clean", "a")


def test_products_name_their_inputs() -> None:
    spec = experiment(
        {"attacks": ["none", "a"], "eliminations": ["none", "e"], "purifications": ["none", "p"]},
        figures=["defenses", "inversion", "epochs", "suspicion"],
    )
    input_paths = {kind: [str(path) for path in inputs(spec, kind, "runs")] for kind in ("table", *spec.figures)}
    poisoned = "models/defects/codebert/a-0.05/seed1/none/cross_entropy"
    assert len(input_paths["table"]) == len(scenarios(spec)) + 1
    assert input_paths["table"] == input_paths["defenses"]
    assert input_paths["table"][-1] == str(Path("runs/data/defects/baseline.json"))
    assert input_paths["inversion"][1] == f"runs/{poisoned}/e/elimination.json"
    assert input_paths["epochs"] == [f"runs/{poisoned}/none/history.json"]
    assert [Path(path).name for path in input_paths["suspicion"]] == [
        "purified.clean.jsonl",
        "purified.a.jsonl",
        "test.jsonl",
        "test.jsonl",
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"rates": [0]},
        {"rates": [1.5]},
        {"attacks": []},
        {"seeds": [-1]},
        {"combine": "some"},
        {"models": ["Code BERT"]},
    ],
)
def test_an_impossible_grid_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        experiment(wrong)
