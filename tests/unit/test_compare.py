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
from codebackdoor.report.export import collect
from codebackdoor.report.metrics import METRIC_COLUMNS

BENIGN = Scenario("defects", "codebert")
CLEANED = Scenario("defects", "codebert", "by_name", "0.05", elimination="eli")


def run(out: Path, accuracy: float = 0.7, epochs: int = 3, code: str = "a", scenarios: int = 2) -> Path:
    """A made-up finished run; what is given belongs to the scenario ``CLEANED`` alone."""
    paths = []
    for scenario in (BENIGN, CLEANED)[:scenarios]:
        is_cleaned = scenario == CLEANED
        estimate = {"value": accuracy if is_cleaned else 0.6, "low": 0.5, "high": 0.8, "n": 10}
        path = scenario.results(out) / "metrics.json"
        files.write_json(path, {"testsets": {"clean": {"metrics": {"accuracy": estimate}}}})
        paths.append(path)
        facts = {"stage": "eliminate", "settings": {"settings": {"epochs": epochs if is_cleaned else 1}}, "code": "a"}
        files.write_json(scenario.victim(out) / "provenance.json", facts | ({"code": code} if is_cleaned else {}))
        files.write_json(scenario.results(out) / "provenance.json", {"stage": "predict", "host": str(out)})
    collect(paths, out / "results")
    return out


def test_runs_of_equal_numbers_are_equal_wherever_and_whenever_they_ran(tmp_path: Path) -> None:
    comparison = compare(run(tmp_path / "one"), run(tmp_path / "other", code="b"))
    assert comparison.same
    assert comparison.equal == 2


def test_another_number_is_told_with_its_cause(tmp_path: Path) -> None:
    comparison = compare(run(tmp_path / "one"), run(tmp_path / "other", accuracy=0.75, epochs=4, code="b"))
    assert (comparison.equal, [difference.scenario for difference in comparison.different]) == (1, [CLEANED])
    assert [str(change) for change in comparison.different[0].changes] == ["clean accuracy: 0.7000 -> 0.7500 (+0.0500)"]
    assert comparison.different[0].causes == ("eliminate: settings.settings.epochs 3 -> 4", "eliminate: code a -> b")


def differing(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs in which CLEANED differs, and nothing says why."""
    return run(tmp_path / "one"), run(tmp_path / "other", accuracy=0.75)


JOBS = {
    "dataset": "data/defects",
    "poison": "data/defects/by_name-0.05/seed1",
    "train": "models/defects/codebert/by_name-0.05/seed1/none/cross_entropy/none",
    "score": "results/defects/codebert/by_name-0.05/seed1/none/cross_entropy/eli/none/score",
}


@pytest.mark.parametrize("stage", JOBS)
@pytest.mark.parametrize(
    ("key", "values", "cause"),
    [
        ("code", ("a", "b"), "code a -> b"),
        ("seed", (1, 2), "seed 1 -> 2"),
        ("threads", (1, 2), "threads 1 -> 2"),
        ("device", ({"name": "x", "peak_mb": 1}, {"name": "y", "peak_mb": 1}), "device x -> y"),
        ("versions", ({"torch": "1"}, {"torch": "2"}), "versions.torch 1 -> 2"),
        ("read", ({"base": 64 * "1"}, {"base": 64 * "2"}), f"read.base {12 * '1'} -> {12 * '2'}"),
    ],
)
def test_every_job_is_asked_for_what_changed_a_number(
    stage: str, key: str, values: tuple[object, object], cause: str, tmp_path: Path
) -> None:
    runs = differing(tmp_path)
    for out, value in zip(runs, values, strict=True):
        facts = {"stage": stage, "seconds": len(str(out)), "device": {"name": "x", "peak_mb": len(str(out))}}
        files.write_json(out / JOBS[stage] / "provenance.json", facts | {key: value})
    assert compare(*runs).different[0].causes == (f"{stage}: {cause}",)


def test_another_corpus_is_told_by_archives_and_code_and_only_where_it_was_read(tmp_path: Path) -> None:
    runs = differing(tmp_path)
    for out, code, archives in zip(runs, "ab", (["x-1"], ["x-1", "y-2"]), strict=True):
        files.write_json(out / "corpus/provenance.json", {"stage": "corpus", "code": code, "archives": archives})
    assert compare(*runs).different[0].causes == ()
    for out, digest in zip(runs, "12", strict=True):
        files.write_json(out / "data/defects/card.json", {"read": {"corpus.jsonl": 64 * digest}, "rows": out.name})
    assert compare(*runs).different[0].causes == (
        "corpus: code a -> b",
        "corpus: archives ['x-1'] -> ['x-1', 'y-2']",
        "dataset: read.corpus.jsonl 111111111111 -> 222222222222",
    )


def test_a_benign_victim_differs_by_the_attack_of_a_test_set_that_it_was_asked_on(tmp_path: Path) -> None:
    runs = run(tmp_path / "one", scenarios=1), run(tmp_path / "other", scenarios=1)
    for out, value, code in zip(runs, (0.3, 0.4), "ab", strict=True):
        path = BENIGN.results(out) / "metrics.json"
        estimate = {"value": value, "low": 0.1, "high": 0.8, "n": 10}
        files.write_json(path, {"testsets": {"by_name": {"metrics": {"asr": estimate}}}})
        collect([path], out / "results")
        for attack in ("by_name", "other"):
            place = out / f"data/defects/{attack}-0.05/seed1/provenance.json"
            files.write_json(place, {"stage": "poison", "code": f"{attack} {code}"})
    assert compare(*runs).different[0].causes == ("poison: code by_name a -> by_name b",)


def test_a_record_that_one_run_has_not_is_said(tmp_path: Path) -> None:
    runs = differing(tmp_path)
    files.write_json(runs[1] / JOBS["poison"] / "provenance.json", {"stage": "poison", "code": "a"})
    assert compare(*runs).different[0].causes == (f"{JOBS['poison']}/provenance.json: only in {runs[1]}",)


def test_scenarios_of_one_run_alone_are_named(tmp_path: Path) -> None:
    comparison = compare(run(tmp_path / "one", scenarios=1), run(tmp_path / "other"))
    assert (comparison.only_before, comparison.only_after, comparison.same) == ((), (CLEANED,), False)


def test_the_command_says_so_and_exits_like_diff(tmp_path: Path) -> None:
    before, after = run(tmp_path / "one"), run(tmp_path / "other", accuracy=0.75)
    assert CliRunner().invoke(main, ["compare", str(before), str(before)]).exit_code == 0
    result = CliRunner().invoke(main, ["compare", str(before), str(after)])
    assert result.exit_code == 1
    assert "1 scenarios are equal in every metric, 1 differ" in result.output
    assert "nothing that is recorded" in result.output
    missing = CliRunner().invoke(main, ["compare", str(before), str(tmp_path)])
    assert missing.exit_code == 2
    assert missing.output.startswith(f"error: {tmp_path}/results/metrics.csv: not found")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name the folder of a finished run"):
        compare(tmp_path, tmp_path)


NAMES = ",".join(Scenario("defects", "codebert").wildcards.values())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "holds no metric"),
        ("clean,accuracy\n", "not a row of the metrics"),
        (f"{NAMES},clean,accuracy,soon,,,1\n", "the value 'soon' is not a number"),
        (f"{NAMES},clean,accuracy,nan,,,1\n", "the value 'nan' is not a number"),
        (f"{NAMES},clean,accuracy,1,inf,,1\n", "the value 'inf' is not a number"),
        (f"{NAMES},clean,accuracy,1,,,some\n", "not a row of the metrics"),
        (f"{NAMES},clean,accuracy,1,,,1,1\n", "not a row of the metrics"),
        (f"{NAMES},../x,accuracy,1,,,1\n", "not a row of the metrics"),
        (f"../{NAMES},clean,accuracy,1,,,1\n", "not a row of the metrics"),
        (f"{'x' * 200_000}\n", "cannot be read as a table"),
    ],
)
def test_metrics_that_are_empty_or_broken_are_not_equal_to_themselves(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/metrics.csv").write_text(f"{','.join(METRIC_COLUMNS)}\n{rows}")
    with pytest.raises(UserError, match=message):
        compare(tmp_path, tmp_path)
