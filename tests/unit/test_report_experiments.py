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
    held = scenarios(experiment({"eliminations": ["elibadcode"]}))
    assert Scenario("defects", "codebert") in held
    assert Scenario("defects", "codebert", "a", "0.05") in held
    assert Scenario("defects", "codebert", "a", "0.05", elimination="elibadcode") in held
    assert len(held) == 3


def test_each_defense_stands_alone_unless_all_are_combined() -> None:
    grid = {"eliminations": ["none", "e"], "purifications": ["none", "p"], "objectives": ["cross_entropy", "dece"]}
    each = [defenses(one) for one in scenarios(experiment(grid)) if one.attack == "a"]
    assert each == [(), ("dece",), ("e",), ("p",)]
    every = [defenses(one) for one in scenarios(experiment({**grid, "combine": "all"})) if one.attack == "a"]
    assert every == [(), ("dece",), ("e",), ("p",), ("dece", "e"), ("dece", "p"), ("e", "p"), ("dece", "e", "p")]


def test_none_among_the_attacks_defends_the_benign_victim_too() -> None:
    grid = {"purifications": ["none", "p"]}
    benign = [one for one in scenarios(experiment({**grid, "attacks": ["none", "a"]})) if one.attack == "none"]
    assert [one.purification for one in benign] == ["none", "p"]
    assert {one.rate for one in benign} == {"0"}
    assert len([one for one in scenarios(experiment(grid)) if one.attack == "none"]) == 1


def test_grids_share_scenarios_and_seeds_multiply_them() -> None:
    both = experiment({"seeds": [1, 2]}, {"seeds": [2], "rates": [0.01, 0.05]})
    held = scenarios(both)
    assert len(held) == len(set(held)) == 5
    assert {one.rate for one in held if one.seed == "2"} == {"0", "0.01", "0.05"}


def test_a_dash_is_a_cell_that_is_not_run() -> None:
    grid = {"datasets": ["defects", "repair"], "purifications": ["none", "oseql"]}
    one = experiment(grid, dashes=[{"dataset": "repair", "purification": "oseql"}])
    left_out = set(cells(one)) - set(scenarios(one))
    assert left_out == {Scenario("repair", "codebert", "a", "0.05", purification="oseql")}
    with pytest.raises(ValidationError, match="empty selection"):
        experiment(grid, dashes=[{}])


def test_benign_victims_are_asked_about_every_attack_of_their_experiments() -> None:
    first = experiment({"attacks": ["a", "b"], "rates": [0.01, 0.05]})
    second = experiment({"attacks": ["c"]})
    other = experiment({"attacks": ["d"], "datasets": ["repair"]})
    attacks = experiments.triggered(scenario for one in (first, second, other) for scenario in scenarios(one))
    assert attacks == {"defects": {"a": "0.01", "b": "0.01", "c": "0.05"}, "repair": {"d": "0.05"}}
    assert experiments.testsets("defects", "none", "none", attacks) == ("clean", "a", "b", "c")
    assert experiments.testsets("defects", "none", "onion", attacks) == ("clean",)
    assert experiments.testsets("defects", "a", "none", attacks) == ("clean", "a")


def test_products_name_their_inputs() -> None:
    one = experiment(
        {"attacks": ["none", "a"], "eliminations": ["none", "e"], "purifications": ["none", "p"]},
        figures=["defenses", "inversion", "epochs", "suspicion"],
    )
    found = {kind: [str(path) for path in inputs(one, kind, "runs")] for kind in ("table", *one.figures)}
    poisoned = "models/defects/codebert/a-0.05/seed1/none/cross_entropy"
    assert len(found["table"]) == len(scenarios(one)) + 1
    assert found["table"] == found["defenses"]
    assert found["table"][-1] == str(Path("runs/data/defects/baseline.json"))
    assert found["inversion"][1] == f"runs/{poisoned}/e/elimination.json"
    assert found["epochs"] == [f"runs/{poisoned}/none/history.json"]
    assert [Path(path).name for path in found["suspicion"]] == [
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
