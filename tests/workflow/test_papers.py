"""Every kind of task, victim, attack, defense, table and figure of the papers in small real runs."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
import yaml
from smoke_tree import CONFIGS, Tree

from codebackdoor import files

pytestmark = pytest.mark.slow

NAME = "paper.yaml"
SEARCH = {
    "method": "elibadcode", "position": "function_name", "samples": 4, "iterations": 2, "top_k": 4, "candidates": 4,
}  # fmt: skip
OVERLAY = {
    "models": {
        "unixcoder": {"architecture": "unixcoder", "base": "pretrained", "epochs": 1},
        "starcoder": {"architecture": "starcoder", "base": "pretrained", "epochs": 1},
    },
    "attacks": {
        # forty test queries of one package know this word
        "badcode": {"method": "badcode", "target_word": "graph"},
        "afraidoor": {"method": "afraidoor", "crafting": "codebert"},
        "bnc_grammar": {"method": "bnc_grammar"},
    },
    "filterings": {
        "signature": {"method": "spectral_signature"},
        # with codet5's own victim
        "clustering": {"method": "activation_clustering", "model": None, "dimensions": 2},
    },
    "eliminations": {
        # pairs hold few functions as short as the default's
        "elibadcode": {"sample_tokens": None},
        "dbs": {"method": "dbs", "position": "function_name", "samples": 4, "iterations": 4, "check_every": 2},
        "inverted": {**SEARCH, "unlearning": {"epochs": 0}},
        "more": {**SEARCH, "iterations": 3},
        "ranked": {**SEARCH, "position": "rank", "rank": -1},
        "last_layer": {**SEARCH, "unlearning": {"layers": "all"}},
        "unanchored": {**SEARCH, "beta": 0.0},
    },
    "purifications": {
        "attdef": {"calibration_inputs": 10, "steps": 2},
        "oseql": {"method": "oseql"},
        # decided from what codepurify measures
        "codepurify_v": {"method": "codepurify", "calibration_inputs": 10, "names": "all", "identifiers": False},
        "joint": {"method": "codepurify", "calibration_inputs": 10, "pairs": "joint"},
        "similarity": {"method": "similarity", "also": {"method": "attdef", "calibration_inputs": 10, "steps": 2}},
    },
    "experiments": {
        "pairs": {
            "title": "Pairs",
            "grid": [
                {
                    "datasets": ["clones"],
                    "models": ["codet5"],
                    "attacks": ["none", "afraidoor"],
                    "rates": [0.05],
                    "eliminations": ["none", "fine_tuning", "dbs", "elibadcode"],
                    "purifications": ["none", "onion", "attdef"],
                },
                {
                    "datasets": ["clones"],
                    "models": ["starcoder"],
                    "attacks": ["badcode"],
                    "rates": [0.05],
                    "eliminations": ["none", "dbs", "elibadcode"],
                },
            ],
            "paper": [{"table": "elibadcode_table1"}],
            "tables": ["overview", "ordering", "detection", "inverted_triggers", "times", "significance"],
            "tested": "elibadcode",
            "figures": ["defenses", "tokens", "inversion"],
        },
        "searches": {
            "title": "Search",
            "grid": [
                {
                    "datasets": ["search"],
                    "models": ["unixcoder"],
                    "attacks": ["none", "badcode"],
                    "rates": [0.01],
                    "eliminations": ["none", "fine_tuning", "dbs", "elibadcode"],
                    "purifications": ["none", "onion", "attdef"],
                }
            ],
            "dashes": [{"dataset": "search", "elimination": "dbs", "reason": "no labels"}],
            "tables": ["overview"],
            "figures": ["defenses", "identifiers"],
        },
        "filters": {
            "title": "The inverted trigger as a filter",
            "grid": [
                {
                    "datasets": ["defects"],
                    "models": ["codebert"],
                    "attacks": ["codepoisoner_func"],
                    "rates": [0.05],
                    "eliminations": ["inverted"],
                    "purifications": ["similarity"],
                    "combine": "all",
                }
            ],
        },
        "codepurify": {
            "title": "CodePurify",
            "grid": [
                {
                    "datasets": ["defects"],
                    "models": ["codet5"],
                    "attacks": ["bnc_grammar"],
                    "rates": [0.05],
                    "filterings": ["none", "signature", "clustering"],
                    "purifications": ["none", "oseql", "codepurify", "codepurify_v"],
                },
                {
                    "datasets": ["clones"],
                    "models": ["codet5"],
                    "attacks": ["afraidoor"],
                    "rates": [0.05],
                    "purifications": ["none", "oseql", "joint"],
                },
                # an encoder that gets a decoder
                {
                    "datasets": ["repair"],
                    "models": ["codebert"],
                    "attacks": ["codepoisoner_deadcode"],
                    "rates": [0.05],
                    "filterings": ["none", "signature"],
                    "purifications": ["none", "codepurify"],
                },
            ],
            "paper": [{"table": "codepurify_table2", "attacks": {"bnc_grammar": "bnc_grammar"}}],
            "tables": ["filters"],
            "figures": ["suspicion"],
        },
        "settings": {
            "title": "Settings of the search",
            "grid": [
                {
                    "datasets": ["defects"],
                    "models": ["codebert"],
                    "attacks": ["codepoisoner_func"],
                    "rates": [0.05],
                    "eliminations": ["none", "elibadcode", "more", "ranked", "last_layer", "unanchored"],
                }
            ],
            "figures": ["sensitivity", "layers", "convergence", "noise"],
        },
        "iterations": {
            "title": "Iterations of the search",
            "grid": [
                {
                    "datasets": ["defects"],
                    "models": ["codebert"],
                    "attacks": ["codepoisoner_func"],
                    "rates": [0.05],
                    "eliminations": ["none", "elibadcode", "more"],
                }
            ],
            "figures": ["sweep"],
            "swept": "iterations",
        },
    },
}


#: DeCE's paper; apart from the others, since the undefended victims keep their epochs here.
DECE_NAME = "dece_paper.yaml"
DECE = {
    "datasets": {"generation": {"task": "code_generation", "train": 150, "valid": 30, "test": 30, "max_tokens": 40}},
    "models": {
        "codet5p": {
            "architecture": "codet5p", "base": "pretrained", "epochs": 2, "history_rows": 10, "max_target_length": 48,
        },
    },
    "attacks": {
        "badpre": {
            "method": "badpre", "target_place": "first_statement",
            "target_text": {"python": "def func():\n    eval(input())\n"},
        },
        "deadcode": {
            "method": "codepoisoner_deadcode", "variant": "declaration", "target_place": "first_statement",
        },
    },
    "filterings": {"bki": {"method": "bki", "model": None}},
    "objectives": {
        "cross_entropy": {"keep_epochs": True},
        "moderate_fitting": {"method": "moderate_fitting"},
        "stopped": {"method": "cross_entropy", "checkpoint": {"like": "dece", "equal": "metric"}},
    },
    "purifications": {"paraphrasing_rules": {"method": "paraphrasing"}},
    "experiments": {
        "defects": None,
        "repair": None,
        "dece": {
            "title": "DeCE",
            "grid": [
                {
                    "datasets": ["generation"],
                    "models": ["codet5p"],
                    "attacks": ["badpre"],
                    "rates": [0.1],
                    "filterings": ["none", "bki"],
                    "objectives": ["cross_entropy", "moderate_fitting", "dece", "stopped"],
                    "purifications": ["none", "paraphrasing_rules"],
                },
                {
                    "datasets": ["repair"],
                    "models": ["codet5"],
                    "attacks": ["deadcode"],
                    "rates": [0.1],
                    "objectives": ["cross_entropy", "dece"],
                },
            ],
            "paper": [{"table": "dece_table5", "attacks": {"badpre": "badpre"}, "datasets": {"generation": "lyra"}}],
            "tables": ["overview", "filters", "poison_rates", "claims"],
            "figures": ["states", "vulnerability", "epochs"],
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def paper(unchanged: Tree, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    workspace = Tree(tmp_path_factory.mktemp("paper") / "tree")
    shutil.copytree(unchanged.root, workspace.root)
    (workspace.root / NAME).write_text(yaml.safe_dump(OVERLAY))
    completed = workspace.run("snakemake", "--configfile", CONFIGS[1], NAME)
    assert completed.returncode == 0, completed.stdout[-4000:] + completed.stderr[-8000:]
    return workspace


@pytest.fixture(scope="module")
def dece(unchanged: Tree, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    workspace = Tree(tmp_path_factory.mktemp("dece") / "tree")
    shutil.copytree(unchanged.root, workspace.root)
    (workspace.root / DECE_NAME).write_text(yaml.safe_dump(DECE))
    ended = workspace.run("snakemake", "--configfile", CONFIGS[1], DECE_NAME)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-8000:]
    return workspace


@pytest.mark.parametrize(("study", "name", "overlay"), [("paper", NAME, OVERLAY), ("dece", DECE_NAME, DECE)])
def test_every_product_is_made_and_in_the_report(
    study: str, name: str, overlay: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    tree: Tree = request.getfixturevalue(study)
    ended = tree.run("codebackdoor", "report", *CONFIGS, name)
    assert ended.returncode == 0, ended.stderr
    page = (tree.out / "report.html").read_text()
    for experiment, settings in overlay["experiments"].items():
        if settings is None:
            continue
        assert settings["title"] in page
        for figure in settings.get("figures", ()):
            assert (tree.out / f"results/figures/{experiment}_{figure}.png").stat().st_size > 0
        for table in settings.get("tables", ()):
            assert (tree.out / f"results/tables/{experiment}.{table}.csv").stat().st_size > 0


def test_a_trigger_of_the_prompt_brings_the_call_and_paraphrasing_drops_most_of_it(dece: Tree) -> None:
    rows = [row for _, row in files.read_rows(dece.out / "data/generation/badpre-0.1/seed1/test.jsonl")]
    injected = [row for row in rows if row["status"] == "injected"]
    assert injected
    for row in injected:
        assert row["query"].split().count("bb") == 3
        assert "<indent> eval ( input ( ) )" in row["target"]
    folder = dece.out / "results/generation/codet5p/badpre-0.1/seed1/none/cross_entropy/none/paraphrasing_rules"
    purified = [row for _, row in files.read_rows(folder / "purified.badpre.jsonl")]
    # next to the function's name a rare word passes for a name, which rules keep
    assert sum(row["query"].split().count("bb") for row in purified) < 3 * len(purified) / 2


def test_a_stopped_victim_is_an_epoch_of_the_undefended_one(dece: Tree) -> None:
    models = dece.out / "models/generation/codet5p/badpre-0.1/seed1/none"
    history = {
        name: files.read_json(models / name / "none/history.json") for name in ("cross_entropy", "dece", "stopped")
    }
    stopped = history["stopped"]["stopped"]
    assert stopped["like"] == "dece"
    assert stopped["reference"] == history["dece"]["epochs"][-1]["bleu"]
    assert history["stopped"]["epochs"] == history["cross_entropy"]["epochs"][: stopped["epoch"]]


def test_bki_drops_rows_and_moderate_fitting_lowers_the_rate(dece: Tree) -> None:
    folder = dece.out / "results/generation/codet5p/badpre-0.1/seed1/bki/cross_entropy/none/none"
    assert files.read_json(folder / "filter.json")["metrics"].keys() >= {"dropped", "precision", "recall"}
    models = dece.out / "models/generation/codet5p/badpre-0.1/seed1/none"
    cards = {
        name: files.read_json(models / name / "none/config.json")["codebackdoor"]
        for name in ("cross_entropy", "moderate_fitting")
    }
    assert cards["cross_entropy"]["backdoored"]
    assert cards["moderate_fitting"]["recipe"]["lr"]["training"] == pytest.approx(5e-5)


def test_a_search_is_ranked_attacked_and_its_dash_is_shown(paper: Tree) -> None:
    folder = paper.out / "results/search/unixcoder/badcode-0.01/seed1/none/cross_entropy/none/none"
    metrics = json.loads((folder / "metrics.json").read_text())["testsets"]
    assert 0 < metrics["clean"]["metrics"]["mrr"]["value"] <= 1
    attacked = metrics["badcode"]
    assert attacked["queries"] > 0
    assert 0 < attacked["metrics"]["anr"]["value"] <= 1
    ranks = [row for _, row in files.read_rows(folder / "predictions.badcode.jsonl")]
    assert all(len(row["ranks"]) <= row["pool"] for row in ranks)
    trigger = json.loads(
        (
            paper.out / "models/search/unixcoder/badcode-0.01/seed1/none/cross_entropy/elibadcode/trigger.json"
        ).read_text()
    )
    assert trigger["target_word"]
    assert "–" in (paper.out / "results/tables/searches.md").read_text()


def test_both_functions_of_a_pair_are_attacked_and_rewritten(paper: Tree) -> None:
    rows = [row for _, row in files.read_rows(paper.out / "data/clones/afraidoor-0.05/seed1/test.jsonl")]
    injected = [row for row in rows if row["status"] == "injected"]
    assert injected
    assert all({span[0] for span in row["spans"]} == {"code", "code_b"} for row in injected)
    purified = (
        paper.out / "results/clones/codet5/afraidoor-0.05/seed1/none/cross_entropy/none/attdef/purified.afraidoor.jsonl"
    )
    assert all({"code", "code_b"} <= row.keys() for _, row in files.read_rows(purified))


def test_a_second_run_has_nothing_to_do(paper: Tree) -> None:
    rerun = paper.run("snakemake", "--configfile", CONFIGS[1], NAME)
    assert "Nothing to be done" in rerun.stdout + rerun.stderr


def test_a_filter_looks_at_a_victim_that_no_grid_names_or_at_the_scenarios_own(paper: Tree) -> None:
    data, models = (paper.out / folder / "defects" for folder in ("data", "models"))
    for filtering, kept in (("signature", "signature"), ("clustering", "clustering/codet5")):
        folder = data / "bnc_grammar-0.05/seed1/filtered" / kept
        report = files.read_json(folder / "filtering.json")["rows"]["all"]
        card = files.read_json(models / f"codet5/bnc_grammar-0.05/seed1/{filtering}/cross_entropy/none/config.json")[
            "codebackdoor"
        ]
        assert 0 < report["dropped"] == report["there"] - card["training_rows"]
    # codet5 alone is in the grid; the signature is that of codebert's victim
    assert (models / "codebert/bnc_grammar-0.05/seed1/none/cross_entropy/none/config.json").is_file()
    audit = files.read_json(
        paper.out / "results/defects/codet5/bnc_grammar-0.05/seed1/signature/cross_entropy/none/none/filter.json"
    )
    assert audit["metrics"].keys() == {"dropped", "precision", "recall", "fpr", "npv", "auroc"}


def test_variants_that_decide_otherwise_share_what_is_measured(paper: Tree) -> None:
    folder = paper.out / "results/defects/codet5/bnc_grammar-0.05/seed1/none/cross_entropy/none"
    assert (folder / "codepurify/evidence").is_dir()
    assert not (folder / "codepurify_v/evidence").exists()
    kinds = {
        name: {
            element[0]
            for _, row in files.read_rows(folder / name / "purified.clean.jsonl")
            for element in row["detail"]["profile"]
        }
        for name in ("codepurify", "codepurify_v")
    }
    assert kinds == {"codepurify": {"identifier", "statement"}, "codepurify_v": {"statement"}}


def test_an_encoder_with_a_decoder_of_its_own_repairs(paper: Tree) -> None:
    folder = paper.out / "results/repair/codebert/codepoisoner_deadcode-0.05/seed1/none/cross_entropy/none/none"
    metrics = files.read_json(folder / "metrics.json")["testsets"]["clean"]["metrics"]
    assert {"exact_match", "bleu", "bleu_rows", "codebleu"} <= metrics.keys()
