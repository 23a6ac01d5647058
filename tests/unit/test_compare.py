"""Two runs side by side: equal ones, another number and its cause, scenarios that only one of them has."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from codebackdoor import files
from codebackdoor.cli import main
from codebackdoor.config.scenario import Scenario
from codebackdoor.errors import UserError
from codebackdoor.report.compare import compare
from codebackdoor.report.long import collect

BENIGN = Scenario("defects", "codebert")
CLEANED = Scenario("defects", "codebert", "by_name", "0.05", elimination="eli")


def run(out: Path, accuracy: float = 0.7, epochs: int = 3, code: str = "a", scenarios: int = 2) -> Path:
    """A made-up finished run; what is given belongs to the scenario ``CLEANED`` alone."""
    paths = []
    for scenario in (BENIGN, CLEANED)[:scenarios]:
        own = scenario == CLEANED
        estimate = {"value": accuracy if own else 0.6, "low": 0.5, "high": 0.8, "n": 10}
        path = scenario.results(out) / "metrics.json"
        files.write_json(path, {"testsets": {"clean": {"metrics": {"accuracy": estimate}}}})
        paths.append(path)
        facts = {"stage": "eliminate", "settings": {"settings": {"epochs": epochs if own else 1}}, "code": "a"}
        files.write_json(scenario.victim(out) / "provenance.json", facts | ({"code": code} if own else {}))
        files.write_json(scenario.results(out) / "provenance.json", {"stage": "predict", "host": str(out)})
    collect(paths, out / "results")
    return out


def test_runs_of_equal_numbers_are_equal_wherever_and_whenever_they_ran(tmp_path: Path) -> None:
    found = compare(run(tmp_path / "one"), run(tmp_path / "other", code="b"))
    assert found.same
    assert found.equal == 2


def test_another_number_is_told_with_its_cause(tmp_path: Path) -> None:
    found = compare(run(tmp_path / "one"), run(tmp_path / "other", accuracy=0.75, epochs=4, code="b"))
    assert (found.equal, [one.scenario for one in found.different]) == (1, [CLEANED])
    assert [str(change) for change in found.different[0].changes] == ["clean accuracy: 0.7000 -> 0.7500 (+0.0500)"]
    assert found.different[0].causes == ("eliminate: settings.settings.epochs 3 -> 4", "eliminate: code a -> b")


def test_scenarios_of_one_run_alone_are_named(tmp_path: Path) -> None:
    found = compare(run(tmp_path / "one", scenarios=1), run(tmp_path / "other"))
    assert (found.only_before, found.only_after, found.same) == ((), (CLEANED,), False)


def test_the_command_says_so_and_exits_like_diff(tmp_path: Path) -> None:
    one, other = run(tmp_path / "one"), run(tmp_path / "other", accuracy=0.75)
    assert CliRunner().invoke(main, ["compare", str(one), str(one)]).exit_code == 0
    found = CliRunner().invoke(main, ["compare", str(one), str(other)])
    assert found.exit_code == 1
    assert "1 scenarios are equal in every metric, 1 differ" in found.output
    assert "nothing that is recorded" in found.output
    missing = CliRunner().invoke(main, ["compare", str(one), str(tmp_path)])
    assert missing.exit_code == 2
    assert missing.output.startswith(f"error: {tmp_path}/results/metrics.csv: no such file")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name the folder of a finished run"):
        compare(tmp_path, tmp_path)
