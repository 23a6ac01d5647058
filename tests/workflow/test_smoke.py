"""The whole study end to end through Snakemake, at smoke scale: made once, then changed in small ways.

What a change reruns is read off Snakemake's own plan; one change is then really run.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from smoke_tree import CONFIGS, Tree

from codebackdoor import files
from codebackdoor.syntax import parse
from codebackdoor.tasks.deduplication import normal_key

pytestmark = pytest.mark.slow

#: What every change of a scenario's numbers reaches in the end.
ENDS = {
    "results/metrics.csv",
    *(f"results/tables/defects.{suffix}" for suffix in ("csv", "md", "tex")),
    *(f"results/figures/defects_defenses.{suffix}" for suffix in ("png", "pdf", "svg")),
}


def test_every_product_is_there_and_the_report_is_self_contained(finished: Tree) -> None:
    report = finished.run("codebackdoor", "report", *CONFIGS)
    assert report.returncode == 0, report.stderr
    assert f"next: open {(finished.out / 'report.html').as_uri()}" in report.stdout
    page = (finished.out / "report.html").read_text()
    # it links to papers, and loads nothing
    assert not re.search(r"""<link\b|<script\b|@import|src=["'](?:https?:)?//|url\(["']?(?:https?:)?//""", page)
    for experiment in ("defects", "repair"):
        for suffix in ("csv", "md", "tex"):
            assert (finished.out / f"results/tables/{experiment}.{suffix}").stat().st_size > 0
        assert list((finished.out / "results/figures").glob(f"{experiment}_*.pdf"))


@pytest.mark.parametrize("dataset", ["defects", "repair"])
def test_no_function_of_the_real_corpus_is_in_two_splits(finished: Tree, dataset: str) -> None:
    folder = finished.out / "data" / dataset
    keys: dict[str, set[str]] = {}
    for split in ("train", "clean", "valid", "test"):
        rows = [row for _, row in files.read_rows(folder / f"{split}.jsonl")]
        # a defect changes the key: of a repair the correct function counts, of a defect its correct twin
        texts = [row.get("target") or row["code"] for row in rows]
        keys[split] = {normal_key(parse(text, "python", "lexed")) for text in texts}
        assert keys[split]
    for first, second in (
        ("train", "valid"),
        ("train", "test"),
        ("valid", "test"),
        ("clean", "test"),
        ("clean", "valid"),
    ):
        assert not keys[first] & keys[second], (first, second)


def test_every_scenario_is_scored_on_its_test_sets(finished: Tree) -> None:
    with (finished.out / "results/metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    benign = {row["testset"] for row in rows if row["attack"] == "none" and row["dataset"] == "defects"}
    assert benign == {"clean", "codepoisoner_func"}
    metrics = {row["metric"] for row in rows if row["testset"] == "codepoisoner_func"}
    assert {"asr", "floor", "flip_rate", "trigger_effect"} <= metrics


@pytest.mark.parametrize("attack", ["none-0", "codepoisoner_func-0.05"])
def test_a_victim_is_trained_on_what_a_filtering_keeps(finished: Tree, attack: str) -> None:
    report = files.read_json(finished.out / f"data/defects/{attack}/seed1/filtered/onion_training_rows/filtering.json")
    trained = {
        name: files.read_json(
            finished.out / f"models/defects/codebert/{attack}/seed1/{name}/cross_entropy/none/config.json"
        )["codebackdoor"]
        for name in ("none", "onion_training_rows")
    }
    assert 0 < report["rows"]["all"]["dropped"] < trained["none"]["training_rows"] == report["rows"]["all"]["there"]
    for card, left in (("training_rows", "all"), ("poisoned_rows", "poisoned")):
        assert trained["onion_training_rows"][card] == trained["none"][card] - report["rows"][left]["dropped"]
    table = (finished.out / "results/tables/defects.csv").read_text()
    assert "ONION (training rows)" in table


def test_metrics_hold_no_time_and_no_place(finished: Tree) -> None:
    for path in finished.out.rglob("metrics.json"):
        text = path.read_text()
        assert str(finished.root) not in text
        assert "seconds" not in text
    facts = json.loads(next(finished.out.rglob("provenance.json")).read_text())
    assert {"seconds", "peak_mb", "device", "host", "commit", "threads", "versions"} <= facts.keys()


def test_a_second_run_has_nothing_to_do_and_imports_nothing_slow(finished: Tree) -> None:
    rerun = finished.run(sys.executable, "-X", "importtime", "-m", "snakemake", "--configfile", CONFIGS[1])
    assert rerun.returncode == 0
    assert "Nothing to be done" in rerun.stdout + rerun.stderr
    imported = {
        line.rpartition("|")[2].strip() for line in rerun.stderr.splitlines() if line.startswith("import time:")
    }
    assert "codebackdoor.dag" in imported
    # they take seconds to import: whoever only asks what there is to do must not wait for them
    assert not {"torch", "transformers", "sklearn", "tree_sitter", "matplotlib"} & imported


def test_a_parameter_of_one_defense_reruns_its_jobs_and_those_after(finished: Tree) -> None:
    change = '{"onion": {"removed_share": 0.02}}'
    pending = finished.pending("--config", f"purifications={change}")
    onion_outputs = {path for path in pending if "/onion/" in path}
    assert {path.rsplit("/", 1)[1] for path in onion_outputs} == {
        "purified.jsonl",
        "purified.clean.jsonl",
        "purified.codepoisoner_func.jsonl",
        "predictions.clean.jsonl",
        "predictions.codepoisoner_func.jsonl",
        "provenance.json",
        "metrics.json",
    }
    assert pending - onion_outputs >= ENDS
    assert all(path.startswith("results/") and "/codebert/" not in path for path in pending - onion_outputs)


def test_the_code_of_one_defense_reruns_its_jobs_and_those_after(finished: Tree) -> None:
    module = finished.root / "workflow/codebackdoor/defenses/suspicion/word_scores.py"
    source = module.read_text()
    try:
        module.write_text(source + "\n# a comment\n\n")
        assert finished.pending() == set()
        module.write_text(source + "\nADDED = 1\n")
        pending = finished.pending()
    finally:
        module.write_text(source)
    assert pending >= ENDS
    touched = {path for path in pending if "/codebert/" in path or "/codet5/" in path}
    # ONION on test inputs, and on training rows with the victims that are trained on what it keeps
    assert {path.startswith("models/") for path in touched} == {True, False}
    assert all("/onion/" in path or "/onion_training_rows/" in path for path in touched)


def test_the_code_of_an_attack_reruns_its_victims_but_trains_no_benign_one(finished: Tree) -> None:
    module = finished.root / "workflow/codebackdoor/attacks/codepoisoner_identifier/method.py"
    source = module.read_text()
    try:
        module.write_text(source + "\nADDED = 1\n")
        pending = finished.pending()
    finally:
        module.write_text(source)
    assert "models/defects/codebert/codepoisoner_func-0.05/seed1/none/cross_entropy/none/model.safetensors" in pending
    assert not [path for path in pending if "none-0" in path and path.startswith("models/")]
    assert not [path for path in pending if "/repair/" in path]


def test_adding_a_method_reruns_nothing(finished: Tree) -> None:
    package = finished.root / "workflow/codebackdoor"
    unions, config = package / "config/methods.py", finished.root / "config.yaml"
    folder = package / "attacks/extra"
    before = unions.read_text(), config.read_text()
    assert before[0].count("AnyAttack = Annotated[") == 1
    try:
        shutil.copytree(package / "attacks/codepoisoner_identifier", folder)
        settings = folder / "settings.py"
        text = settings.read_text().replace("codepoisoner_identifier", "extra")
        settings.write_text(text.replace("CodePoisonerIdentifierSettings", "ExtraSettings"))
        entry = (
            "from codebackdoor.attacks.extra.settings import ExtraSettings\n\nAnyAttack = Annotated[ExtraSettings | "
        )
        unions.write_text(before[0].replace("AnyAttack = Annotated[", entry))
        config.write_text(before[1].replace("\nattacks:\n", "\nattacks:\n  extra: {method: extra}\n"))
        assert finished.pending() == set()
    finally:
        unions.write_text(before[0])
        config.write_text(before[1])
        shutil.rmtree(folder)


def test_a_change_is_really_run_and_nothing_else_is(finished: Tree) -> None:
    before = finished.times()
    option = 'purifications={"onion": {"removed_share": 0.03}}'
    completed = finished.snakemake("--config", option)
    assert completed.returncode == 0, completed.stderr[-4000:]
    after = finished.times()
    changed = {path for path in after if after[path] != before.get(path)}
    results = {path for path in changed if path.startswith("results/") and "/seed1/" in path}
    assert results
    assert all("/onion/" in path for path in results)
    before_defenses = [path for path in changed if path.startswith(("data/", "models/", "corpus/"))]
    assert all("/onion/" in path for path in before_defenses)
    assert "Nothing to be done" in (again := finished.snakemake("--config", option)).stdout + again.stderr


def test_a_calibration_is_made_from_benign_victims_of_other_seeds(finished: Tree) -> None:
    target = "runs/smoke/calibration/defects/codebert/elibadcode.json"
    completed = finished.snakemake("--cores", "2", "--quiet", "all", "--", target)
    assert completed.returncode == 0, completed.stderr
    calibration = files.read_json(finished.root / target)
    assert calibration["provenance"]["shadows"] == [f"seed{seed}" for seed in range(101, 106)]
    assert calibration["provenance"]["recipe"]["architecture"] == "codebert"
    assert all(len(losses) == 5 for losses in calibration["losses"]["function_name"].values())


def test_an_output_that_is_gone_is_made_again_and_nothing_before_it(finished: Tree) -> None:
    victim = Path("models/defects/codebert/none-0/seed1/none/cross_entropy/none")
    weights = finished.out / victim / "model.safetensors"
    kept = weights.with_suffix(".kept")
    weights.rename(kept)
    try:
        pending = finished.pending()
    finally:
        kept.rename(weights)
    assert str(victim / "model.safetensors") in pending
    # the test before this one ran ONION with another parameter
    assert not [path for path in pending if path.startswith("data/") and "/onion/" not in path]


def test_a_job_that_fails_shows_its_log_and_leaves_nothing(finished: Tree) -> None:
    broken = 'datasets={"broken": {"task": "defect_detection", "max_tokens": 2}}'
    failed = finished.snakemake("--config", broken, "--", "runs/smoke/data/broken/train.jsonl")
    assert failed.returncode != 0
    assert "error: datasets.broken: no row is left for train" in failed.stdout + failed.stderr
    assert not list((finished.out / "data/broken").glob("*"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("atacks={}", "unknown key atacks; did you mean attacks?"),
        (
            'experiments={"defects": {"grid": [{"datasets": ["repair"], "models": ["codet5"], "attacks": '
            '["none"], "eliminations": ["elibadcode"]}]}}',
            "elimination 'elibadcode' works on classification, pair and retrieval data sets, but 'repair' is a "
            "generation data set",
        ),
        ('corpus={"archives": ["networkx-3.1"]}', "corpus.archives: unknown archive 'networkx-3.1'"),
    ],
)
def test_a_wrong_configuration_is_refused_before_any_job(tree: Tree, config: str, message: str) -> None:
    refused = tree.snakemake("--dry-run", "--config", config)
    assert refused.returncode != 0
    assert message in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_key_that_stands_twice_is_refused_before_any_job(tree: Tree, tmp_path: Path) -> None:
    twice = tmp_path / "twice.yaml"
    twice.write_text("seeds: [1]\nseeds: [2]\n")
    refused = tree.snakemake("--dry-run", "--configfile", str(twice))
    assert refused.returncode != 0
    assert f"{twice}: line 2: seeds already occurs in line 1; remove one of them" in refused.stdout + refused.stderr
