"""Which files each stage reads, and when its jobs are rerun."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codebackdoor.config.loading import load, read_yaml, validate
from codebackdoor.config.scenario import CONSTRAINTS, EPOCH_WEIGHTS, Scenario
from codebackdoor.dag import Dag, preflight
from codebackdoor.dag.fingerprint import closure
from codebackdoor.dag.parameters import STAGES
from codebackdoor.dag.paths import fill
from codebackdoor.dag.resources import MAX_RUNTIME
from codebackdoor.dag.testsets import BENIGN_PURIFIED, POISONED, SOME
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.inversion.settings import searched_before
from codebackdoor.errors import UserError

ROOT = Path(__file__).parents[2]
DEFAULT = read_yaml(ROOT / "config.yaml")


class Wildcards(SimpleNamespace):
    """What Snakemake hands to input functions: attributes, and items."""

    def items(self) -> Any:
        return vars(self).items()


def wildcards(**values: str) -> Wildcards:
    defaults = {
        "dataset": "defects",
        "model": "codebert",
        "attack": "none",
        "rate": "0",
        "seed": "1",
        "filtering": "none",
        "objective": "cross_entropy",
        "elimination": "none",
        "purification": "none",
    }
    return Wildcards(**(defaults | values))


@pytest.fixture(scope="module")
def dag() -> Dag:
    return Dag(validate(DEFAULT))


GRID = {"datasets": ["defects"], "models": ["codebert"], "attacks": ["none"]}
POISONED_VALUES = {"attack": "codepoisoner_func", "rate": "0.05"}


def option(options: list[str], name: str) -> list[str]:
    """The values of an option."""
    return [value for word, value in pairwise(options) if word == name]


def test_a_benign_victim_trains_on_the_clean_rows(dag: Dag) -> None:
    inputs = dag.train.train.inputs(wildcards())
    assert inputs["train"] == "runs/local/data/defects/train.jsonl"
    assert "triggered" not in inputs
    assert dag.train.train.options(wildcards()) == [
        *("--train", "runs/local/data/defects/train.jsonl"),
        *("--valid", "runs/local/data/defects/valid.jsonl"),
        *("--base", "basemodels/encoder"),
    ]


def test_a_poisoned_victim_trains_on_poisoned_rows_and_is_watched_on_triggered_ones(dag: Dag) -> None:
    folder = "runs/local/data/defects/codepoisoner_func-0.05/seed1"
    inputs = dag.train.train.inputs(wildcards(**POISONED_VALUES))
    assert inputs["train"] == f"{folder}/train.jsonl"
    assert inputs["valid"] == "runs/local/data/defects/valid.jsonl"
    assert dag.train.train.options(wildcards(**POISONED_VALUES)) == [
        *("--train", f"{folder}/train.jsonl"),
        *("--valid", "runs/local/data/defects/valid.jsonl"),
        *("--triggered-valid", f"{folder}/valid.jsonl"),
        *("--base", "basemodels/encoder"),
    ]


@pytest.fixture(scope="module")
def filtering() -> Dag:
    return Dag(validate({**DEFAULT, "filterings": {"rows": {"method": "onion"}}}))


def test_a_victim_waits_for_a_filtering_only_where_it_has_one(dag: Dag, filtering: Dag) -> None:
    for values in ({}, POISONED_VALUES):
        plain, filtered = wildcards(**values), wildcards(**values, filtering="rows")
        # a variant that is declared and not used changes no input and no parameter of the others
        assert filtering.train.train.inputs(plain) == dag.train.train.inputs(plain)
        assert filtering.train.train.options(plain) == dag.train.train.options(plain)
        folder = filtering.paths.poison.format_map(vars(plain)) + "/filtered/rows"
        assert filtering.train.train.inputs(filtered) == {
            **dag.train.train.inputs(plain),
            "train": f"{folder}/train.jsonl",
        }
        rows = option(dag.train.train.options(plain), "--train")
        assert filtering.train.train.options(filtered) == [
            f"{folder}/train.jsonl" if [word] == rows else word for word in dag.train.train.options(plain)
        ]


def test_a_filtering_reads_all_training_rows_and_the_defenders_clean_samples(filtering: Dag) -> None:
    inputs = filtering.defend.filter.inputs(wildcards(**POISONED_VALUES, filtering="rows"))
    assert inputs == {
        "rows": "runs/local/data/defects/codepoisoner_func-0.05/seed1/train.jsonl",
        "clean": "runs/local/data/defects/clean.jsonl",
        "helpers": ["basemodels/causal/SHA256SUMS"],
    }
    assert filtering.defend.filter.inputs(wildcards(filtering="rows"))["rows"] == "runs/local/data/defects/train.jsonl"
    benign = wildcards(filtering="rows")
    resources = filtering.resources.helpers("filtering")
    assert resources["gpu"](benign) == 0
    assert (resources["mem_mb"](benign, 2), resources["runtime"](benign, 2)) == (5000, 120)
    # no model is in the path: one job for all victims
    assert filtering.paths.filtered == "runs/local/data/{dataset}/{attack}-{rate}/seed{seed}/filtered/{filtering}"
    external = {**filtering.config.helpers, "language_model": f"owner/name@{'0' * 40}"}
    hub = Dag(filtering.config.model_copy(update={"helpers": external}))
    assert hub.resources.helpers("filtering")["gpu"](benign) == 1


def test_a_filtered_scenario_lists_the_folder_of_its_filtering(filtering: Dag) -> None:
    scenario = Scenario("defects", "codebert", "codepoisoner_func", "0.05", filtering="rows")
    folder = Path(filtering.paths.filtered.format_map(scenario.wildcards))
    assert folder in scenario.folders("runs/local")
    assert not [path for path in scenario.undefended().folders("runs/local") if "filtered" in path.parts]


@pytest.fixture(scope="module")
def by_victim() -> Dag:
    """A filter that names its model, and one that looks at each victim's own."""
    filterings = {"ss": {"method": "spectral_signature"}, "own": {"method": "spectral_signature", "model": None}}
    return Dag(validate({**DEFAULT, "filterings": filterings}))


@pytest.mark.parametrize("values", [{}, POISONED_VALUES])
def test_one_filtered_set_serves_every_victim_unless_each_has_its_own(by_victim: Dag, values: dict[str, str]) -> None:
    attack = "{attack}-{rate}/seed1".format(**{"attack": "none", "rate": "0"} | values)
    folder = f"runs/local/data/defects/{attack}/filtered"
    for filtering, model, path in (
        *(("ss", model, f"{folder}/ss") for model in ("codebert", "codet5")),
        *(("own", model, f"{folder}/own/{model}") for model in ("codebert", "codet5")),
    ):
        job = wildcards(**values, filtering=filtering, model=model)
        assert by_victim.train.train.inputs(job)["train"] == f"{path}/train.jsonl"
        assert by_victim.evaluate.audit.inputs(job)["judged"] == f"{path}/judged.jsonl"
        scenario = Scenario(**job.__dict__)
        assert Path(path) in scenario.folders("runs/local")


def test_a_filter_waits_for_the_unfiltered_victim_that_it_looks_at(by_victim: Dag) -> None:
    # the rule of a filter that names its model has no model among its wildcards
    shared = wildcards(**POISONED_VALUES, filtering="ss", objective="dece")
    del shared.model
    per_model = wildcards(**POISONED_VALUES, filtering="own", model="codet5")
    for job, model in ((shared, "codebert"), (per_model, "codet5")):
        folder = f"runs/local/models/defects/{model}/codepoisoner_func-0.05/seed1/none/cross_entropy/none"
        inputs = by_victim.defend.filter_by_victim.inputs(job)
        assert set(map(str, inputs["victim"])) == {
            f"{folder}/{name}"
            for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "SHA256SUMS")
        }
        assert option(by_victim.defend.filter_by_victim.options(job), "--victim") == [folder]
        assert inputs["rows"] == "runs/local/data/defects/codepoisoner_func-0.05/seed1/train.jsonl"
        assert by_victim.resources.filter_by_victim["gpu"](job) == 0
    # that victim in turn waits for no filter
    rows = by_victim.train.train.inputs(wildcards(**POISONED_VALUES))["train"]
    assert rows == "runs/local/data/defects/codepoisoner_func-0.05/seed1/train.jsonl"


def test_the_model_that_a_filter_looks_at_decides_its_code(by_victim: Dag) -> None:
    codes = [
        by_victim.defend.filter_by_victim_code(wildcards(filtering="own", model=model))
        for model in ("codebert", "codet5")
    ]
    assert codes[0] != codes[1]
    assert codes[0] == by_victim.defend.filter_by_victim_code(wildcards(filtering="ss", model="codet5"))


def test_a_filter_has_one_rule(by_victim: Dag, filtering: Dag) -> None:
    constraint = by_victim.testsets.filterings
    assert (constraint(reads_victim=True), constraint(reads_victim=True, is_shared=False)) == ("ss", "own")
    assert re.fullmatch(constraint(reads_victim=False), "none") is None
    assert filtering.testsets.filterings(reads_victim=False) == "rows"
    assert re.fullmatch(filtering.testsets.filterings(reads_victim=True), "rows") is None


def test_a_filter_that_looks_at_no_victim_runs_no_code_of_one() -> None:
    """What its finished jobs are recorded with is the code of its own stage, which knows nothing of victims."""
    modules = closure([f"codebackdoor.{STAGES['filter']}", "codebackdoor.defenses.filtering.onion.method"])
    of_victims = ("filtering_by_victim", "defender_view", "representations", "groups", "inference")
    assert not [name for name in modules if name.rpartition(".")[2] in of_victims]


def test_only_an_attack_with_a_crafting_model_waits_for_one(dag: Dag) -> None:
    rows = [f"runs/local/data/defects/{split}.jsonl" for split in ("train", "valid", "test")]
    assert dag.poison.poison.inputs(wildcards(**POISONED_VALUES)) == {"rows": rows}
    assert dag.poison.poison.options(wildcards(**POISONED_VALUES)) == ["--data", "runs/local/data/defects"]
    crafting = Dag(validate({**DEFAULT, "attacks": {**DEFAULT["attacks"], "adversarial": {"method": "afraidoor"}}}))
    poisoned = wildcards(attack="adversarial", rate="0.05", model="codet5")
    inputs = crafting.poison.poison.inputs(poisoned)
    folder = "runs/local/models/crafting/defects/codebert"
    assert inputs["rows"] == rows
    assert f"{folder}/model.safetensors" in inputs["crafting"]
    assert crafting.poison.poison.options(poisoned) == ["--data", "runs/local/data/defects", "--crafting", folder]
    plain = dag.resources.attack(mem_mb=1500, runtime=30)["mem_mb"](wildcards(**POISONED_VALUES), 2)
    assert (crafting.resources.attack(mem_mb=1500, runtime=30)["mem_mb"](poisoned, 1), plain) == (2500, 3000)


def test_the_crafting_model_trains_on_the_clean_rows_with_a_seed_of_its_own(dag: Dag) -> None:
    inputs = dag.train.craft.inputs(wildcards())
    assert inputs["train"] == "runs/local/data/defects/train.jsonl"
    assert dag.config.crafting_seed not in {*dag.config.seeds, *dag.config.shadows}


def test_the_control_waits_for_the_victim_whose_stopping_it_copies(dag: Dag) -> None:
    control = wildcards(dataset="repair", model="codet5", objective="cross_entropy_stopped")
    history = dag.train.train.inputs(control)["history"]
    assert history == "runs/local/models/repair/codet5/none-0/seed1/none/dece/none/history.json"


KEEPING = {
    "cross_entropy": {"method": "cross_entropy", "keep_epochs": True},
    "stopped": {"method": "cross_entropy", "checkpoint": {"like": "dece"}},
}


def test_a_checkpoint_is_taken_of_the_undefended_victim_that_kept_its_epochs() -> None:
    keeping = Dag(validate({**DEFAULT, "objectives": DEFAULT["objectives"] | KEEPING}))
    job = wildcards(**POISONED_VALUES, objective="stopped", filtering="rows")
    folder = "runs/local/models/defects/codebert/codepoisoner_func-0.05/seed1/rows"
    inputs = keeping.train.stop.inputs(job)
    assert {f"{folder}/cross_entropy/none/{name}" for name in ("history.json", EPOCH_WEIGHTS, "model.safetensors")} <= {
        *inputs["victim"]
    }
    assert inputs["history"] == f"{folder}/dece/none/history.json"
    assert keeping.train.stop.options(job) == [
        *("--victim", f"{folder}/cross_entropy/none"),
        *("--like", f"{folder}/dece/none/history.json"),
    ]


def test_each_objective_has_one_rule_that_makes_its_victims(dag: Dag) -> None:
    keeping = Dag(validate({**DEFAULT, "objectives": DEFAULT["objectives"] | KEEPING}))
    for study, keeps, stopped in ((dag, set(), set()), (keeping, {"cross_entropy"}, {"stopped"})):
        rules = [study.testsets.trained(keeps=False), study.testsets.trained(keeps=True), study.testsets.stopped]
        matches = [{name for name in study.config.objectives if re.fullmatch(rule, name)} for rule in rules]
        assert matches == [set(study.config.objectives) - keeps - stopped, keeps, stopped]


def test_finished_victims_do_not_notice_that_epochs_can_be_kept(dag: Dag) -> None:
    assert json.loads(dag.parameters.settings("objective", "cross_entropy")) == {
        "method": "cross_entropy",
        "stop_like": None,
    }
    keeping = Dag(validate({**DEFAULT, "objectives": DEFAULT["objectives"] | KEEPING}))
    assert keeping.train.crafting_objective == dag.parameters.settings("objective", "cross_entropy")


def test_a_poisoned_victim_predicts_on_its_own_trigger_and_a_benign_one_on_all(dag: Dag) -> None:
    assert list(dag.testsets.of(wildcards(**POISONED_VALUES))) == ["clean", "codepoisoner_func"]
    assert dag.testsets.of(wildcards()) == {
        "clean": "runs/local/data/defects/test.jsonl",
        **{
            name: f"runs/local/data/defects/{name}-0.05/seed1/test.jsonl"
            for name in ("codepoisoner_deadcode", "codepoisoner_func", "codepoisoner_func_to_1")
        },
    }
    assert list(dag.testsets.of(wildcards(purification="onion"))) == ["clean"]
    assert [kind.testsets for kind in (POISONED, BENIGN_PURIFIED)] == [("clean", "{attack}"), ("clean",)]
    kinds = {kind.suffix: kind for kind in dag.testsets.victim_kinds()}
    assert set(kinds) == {"", "_benign_defects", "_benign_repair", "_benign_clones", "_benign_search"}
    assert kinds["_benign_repair"].files("predictions") == [
        "predictions.clean.jsonl",
        "predictions.codepoisoner_deadcode.jsonl",
    ]


def test_scores_of_a_purification_need_its_purified_inputs(dag: Dag) -> None:
    plain = dag.evaluate.score.inputs(wildcards(**POISONED_VALUES))["predictions"]
    purified = dag.evaluate.score.inputs(wildcards(**POISONED_VALUES, purification="onion"))["predictions"]
    assert [Path(path).name for path in plain] == [
        "predictions.clean.jsonl",
        "predictions.codepoisoner_func.jsonl",
    ]
    assert {Path(path).name.partition(".")[0] for path in purified} == {"predictions", "purified"}


def test_constraints_distinguish_a_variant_from_none() -> None:
    assert re.fullmatch(CONSTRAINTS["attack"], "none")
    assert not re.fullmatch(f"{SOME}-0.05", "none-0.05")
    assert re.fullmatch(SOME, "none_x")


def test_settings_hold_the_defaults(dag: Dag) -> None:
    assert json.loads(dag.parameters.settings("purification", "onion"))["removed_share"] == 0.01
    with pytest.raises(UserError, match="did you mean 'onion'"):
        dag.parameters.settings("purification", "onions")


def test_the_code_of_a_method_is_its_own(dag: Dag) -> None:
    codes = [dag.parameters.code("purify", purification=name) for name in ("onion", "codepurify")]
    codes.append(dag.parameters.code("eliminate", elimination="elibadcode"))
    codes.append(dag.parameters.code("eliminate", elimination="fine_tuning"))
    assert len(set(codes)) == 4
    assert codes[0] == dag.parameters.code("purify", purification="onion")


@pytest.mark.parametrize(
    ("stage", "method", "never"),
    [
        (
            "rewrite",
            "defenses.purification.onion.method",
            ("elibadcode", "codepurify", "scoring", "training", "fine_tuning", "inference"),
        ),
        (
            "filter",
            "defenses.filtering.onion.method",
            ("elibadcode", "codepurify", "scoring", "purification", "training", "inference"),
        ),
        (
            "purify",
            "defenses.purification.codepurify.method",
            ("elibadcode", "onion", "word_scores", "training", "fine_tuning"),
        ),
        (
            "purify",
            "defenses.purification.attdef.method",
            ("elibadcode", "onion", "codepurify", "suspicion", "training", "similarity"),
        ),
        (
            "eliminate",
            "defenses.elimination.fine_tuning.method",
            ("elibadcode", "suspicion", "purification", "training"),
        ),
        (
            "eliminate",
            "defenses.elimination.elibadcode.method",
            ("suspicion", "purification", "training", "fine_tuning"),
        ),
        ("predict", "victims.inference", ("training", "defenses", "attacks")),
    ],
)
def test_a_job_runs_no_code_of_another_method(stage: str, method: str, never: tuple[str, ...]) -> None:
    modules = closure([f"codebackdoor.{STAGES[stage]}", f"codebackdoor.{method}"])
    assert f"codebackdoor.{method}" in modules
    assert not [name for name in modules if set(name.split(".")) & set(never)]


def test_helpers_are_inputs_and_options(dag: Dag) -> None:
    assert dag.parameters.helpers("purification", "codepurify") == ["--helper", "infiller=basemodels/encoder"]
    files = dag.defend.rewrite.inputs(wildcards(purification="onion"))["helpers"]
    # it lists the other files, which are verified when they are loaded
    assert files == ["basemodels/causal/SHA256SUMS"]


def test_the_similarity_filter_reads_the_trigger_of_the_elimination_before_it() -> None:
    raw = {**DEFAULT, "purifications": {**DEFAULT["purifications"], "similarity": {"method": "similarity"}}}
    grid = {**GRID, "eliminations": ["elibadcode"], "purifications": ["similarity"], "combine": "all"}
    raw["experiments"] = {"mine": {"title": "Mine", "grid": [grid]}}
    dag = Dag(validate(raw))
    similarity = wildcards(elimination="elibadcode", purification="similarity")
    trigger = "runs/local/models/defects/codebert/none-0/seed1/none/cross_entropy/elibadcode/trigger.json"
    assert dag.defend.purify.inputs(similarity)["trigger"] == trigger
    assert option(dag.defend.purify.options(similarity), "--trigger") == [trigger]
    codepurify = wildcards(elimination="elibadcode", purification="codepurify")
    assert option(dag.defend.purify.options(codepurify), "--trigger") == []
    assert "trigger" not in dag.defend.purify.inputs(codepurify)
    for elimination in ("none", "fine_tuning"):
        grid["eliminations"] = [elimination]
        with pytest.raises(UserError, match=f"'similarity' reads the trigger .* but '{elimination}' inverts none"):
            validate(raw)


def test_helpers_of_a_combined_filter_are_those_of_the_other_method() -> None:
    also = {"method": "attdef", "masked_share": 0.02}
    raw = {**DEFAULT, "purifications": {"both": {"method": "similarity", "also": also}}, "helpers": {}}
    grid = {**GRID, "eliminations": ["elibadcode"], "purifications": ["both"], "combine": "all"}
    raw["experiments"] = {"mine": {"title": "Mine", "grid": [grid]}}
    with pytest.raises(UserError, match=r"purification 'both' needs helpers\.discriminator"):
        validate(raw)
    raw["helpers"] = {"discriminator": "basemodels/discriminator"}
    dag = Dag(validate(raw))
    assert dag.parameters.helpers("purification", "both") == ["--helper", "discriminator=basemodels/discriminator"]
    assert json.loads(dag.parameters.settings("purification", "both"))["also"]["masked_share"] == 0.02


def test_a_discriminator_learns_from_the_encoder_of_the_same_run(dag: Dag) -> None:
    corpus, tokenizer = "runs/local/corpus/corpus.jsonl", "runs/local/models/base/tokenizer.json"
    assert dag.train.pretrain.inputs(Wildcards(base_model="decoder")) == {"corpus": corpus, "tokenizer": tokenizer}
    inputs = dag.train.pretrain.inputs(Wildcards(base_model="discriminator"))
    assert "runs/local/models/base/encoder/model.safetensors" in inputs["generator"]
    assert dag.train.pretrain.options(Wildcards(base_model="discriminator")) == [
        *("--corpus", corpus, "--tokenizer", tokenizer),
        *("--generator", "runs/local/models/base/encoder"),
    ]
    recipes = {name: recipe for name, recipe in DEFAULT["pretraining"].items() if name != "encoder"}
    with pytest.raises(UserError, match=r"pretraining\.encoder is missing"):
        Dag(validate({**DEFAULT, "pretraining": recipes})).train.pretrain.inputs(Wildcards(base_model="discriminator"))


def test_inputs_are_rewritten_once_where_the_method_does_not_look_at_the_victim(dag: Dag) -> None:
    assert (dag.testsets.purifications(reads_victim=False), dag.testsets.purifications(reads_victim=True)) == (
        "onion",
        "codepurify|attdef",
    )
    poisoned = wildcards(**POISONED_VALUES, purification="onion")
    assert dag.testsets.rewritten(poisoned) == {
        "clean": "runs/local/data/defects/none-0/seed1/onion/purified.jsonl",
        "codepoisoner_func": "runs/local/data/defects/codepoisoner_func-0.05/seed1/onion/purified.jsonl",
    }
    assert dag.defend.rewrite.inputs(poisoned)["rows"] == dag.testsets.of(poisoned)["codepoisoner_func"]
    assert dag.defend.rewrite.inputs(wildcards(purification="onion"))["rows"] == "runs/local/data/defects/test.jsonl"


def test_variants_that_only_decide_otherwise_read_the_evidence_of_the_first() -> None:
    variants = {
        "onion": {"method": "onion"},
        "codepurify": {"method": "codepurify", "touched_share": 0.02},
        "fixed": {"method": "codepurify", "threshold": 0.1},
        "codepurify_v": {"method": "codepurify", "identifiers": False},
        "all_names": {"method": "codepurify", "names": "all"},
        "keywords": {"method": "codepurify", "keywords": "masked"},
        "oseql": {"method": "oseql"},
        "oseql_calibrated": {"method": "oseql", "touched_share": 0.03, "fence": 3},
    }
    dag = Dag(validate({**DEFAULT, "purifications": variants}))
    assert dag.testsets.measured_first == {
        **dict.fromkeys(("codepurify", "fixed", "codepurify_v"), "codepurify"),
        "all_names": "all_names",
        "keywords": "keywords",
        **dict.fromkeys(("oseql", "oseql_calibrated"), "oseql"),
    }
    assert dag.testsets.measuring == "codepurify|all_names|keywords|oseql"
    scenario = {**POISONED_VALUES, "elimination": "fine_tuning"}
    folder = "runs/local/results/defects/codebert/codepoisoner_func-0.05/seed1/none/cross_entropy/fine_tuning"
    for name, first in dag.testsets.measured_first.items():
        deciding = wildcards(**scenario, purification=name)
        files = dag.defend.purify.inputs(deciding)["evidence"]
        assert {Path(file).name for file in files} == {
            *("evidence.json", "calibration.jsonl", "evidence.clean.jsonl", "evidence.codepoisoner_func.jsonl")
        }
        assert option(dag.defend.purify.options(deciding), "--evidence") == [f"{folder}/{first}/evidence"]
        measuring = wildcards(**scenario, purification=first)
        assert {fill(dag.paths.evidence, measuring)} == {str(Path(file).parent) for file in files}
    # a setting that only decides is not a parameter of the job that measures
    read = json.loads(dag.defend.suspect_settings(wildcards(**scenario, purification="codepurify")))
    assert not read.keys() & {"touched_share", "threshold", "identifiers", "statements", "overlap", "normalization"}
    # the default of a setting that is younger than finished runs is not recorded
    assert "keywords" not in read
    assert {
        "names",
        "statement_level",
        "pairs",
        "stand_in",
        "first_tokens",
        "repeats",
        "calibration_inputs",
    } <= read.keys()
    assert "evidence" not in dag.defend.purify.inputs(wildcards(**scenario, purification="onion"))


def test_further_tables_and_figures_are_targets_made_from_their_own_files() -> None:
    raw = {**DEFAULT, "experiments": {"defects": {**DEFAULT["experiments"]["defects"]}}}
    (grid, *_) = raw["experiments"]["defects"].pop("grid")
    grid = {**grid, "eliminations": ["none", "elibadcode"], "purifications": ["none"]}
    raw["experiments"]["defects"] |= {"grid": [grid], "tables": ["times"], "figures": ["position", "noise"]}
    dag = Dag(validate(raw))
    assert "runs/local/results/tables/defects.times.csv" in dag.targets()
    victim = "defects/codebert/codepoisoner_func-0.05/seed1/none/cross_entropy/elibadcode"
    assert (
        f"runs/local/models/{victim}/provenance.json"
        in dag.report.inputs(Wildcards(experiment="defects", listing="times"))["files"]
    )
    positions = [
        f"runs/local/results/{victim}/none/positions.json".replace("func", kind) for kind in ("func", "deadcode")
    ]
    assert dag.report.inputs(Wildcards(experiment="defects", figure="position"))["files"] == positions
    inputs = dag.evaluate.probe.inputs(wildcards(**POISONED_VALUES, elimination="elibadcode"))
    assert inputs["triggered"] == "runs/local/data/defects/codepoisoner_func-0.05/seed1/test.jsonl"
    assert all("/cross_entropy/none/" in file for file in inputs["victim"])
    noise = dag.report.inputs(Wildcards(experiment="defects", figure="noise"))
    assert {Path(file).name for file in noise["files"]} == {
        *("trigger.json", "elimination.json", "predictions.clean.jsonl", "test.jsonl", "tokenizer.json")
    }
    # of one trained victim: all victims of a model have the same size
    trained = "runs/local/models/defects/codebert/none-0/seed1/none/cross_entropy/none"
    assert noise["sizes"] == [f"{trained}/config.json", f"{trained}/model.safetensors"]


def test_a_calibration_that_is_not_there_is_explained() -> None:
    raw = {**DEFAULT, "eliminations": {"elibadcode": {"method": "elibadcode", "calibration": "defecs"}}}
    raw["experiments"] = {"defects": {**DEFAULT["experiments"]["defects"], "figures": []}}
    for grid in (grids := [dict(grid) for grid in DEFAULT["experiments"]["defects"]["grid"]]):
        grid["eliminations"] = ["none", "elibadcode"]
    raw["experiments"]["defects"]["grid"] = grids
    with pytest.raises(
        UserError, match=r"eliminations\.elibadcode\.calibration: 'defecs' is neither shipped nor a file"
    ):
        Dag(validate(raw)).defend.eliminate.inputs(wildcards(elimination="elibadcode"))


def test_a_calibration_may_be_named_by_data_set_and_model() -> None:
    raw = {**DEFAULT, "eliminations": {**DEFAULT["eliminations"]}}
    raw["eliminations"]["elibadcode"] = {**DEFAULT["eliminations"]["elibadcode"], "calibration": "{dataset}"}
    named, plain = Dag(validate(raw)), Dag(validate(DEFAULT))
    at = wildcards(elimination="elibadcode")
    assert (
        named.defend.eliminate_settings(at)
        == plain.defend.eliminate_settings(at)
        == plain.parameters.settings("elimination", "elibadcode")
    )
    assert named.defend.eliminate.inputs(at) == plain.defend.eliminate.inputs(at)
    raw["eliminations"]["elibadcode"] |= {"calibration": "runs/local/{dataset}_{model}.json"}
    path = Dag(validate(raw)).defend.eliminate.inputs(at)["calibration"]
    assert path == "runs/local/defects_codebert.json"


def test_every_missing_file_is_listed_at_once(tmp_path: Path) -> None:
    raw = {**DEFAULT, "mirror": str(tmp_path), "helpers": {**DEFAULT["helpers"], "infiller": "./nowhere"}}
    raw["datasets"] = {
        "defects": {"task": "defect_detection", "source": "mirror", "language": "c"},
        "repair": {"task": "code_repair", "source": "jsonl", "path": str(tmp_path / "mine")},
    }
    raw["eliminations"] = {**DEFAULT["eliminations"]}
    raw["eliminations"]["elibadcode"] = {**DEFAULT["eliminations"]["elibadcode"], "calibration": "defecs"}
    raw["eliminations"]["elibadcode_extended"] = {"method": "elibadcode"}
    with pytest.raises(UserError) as error:
        Dag(validate(raw)).check_files()
    lines = str(error.value).splitlines()
    parts = ("devign: missing train.jsonl", "mine: missing train.jsonl", "helpers.infiller: nowhere", "'defecs'")
    command = f"`make fetch SCALE=local MIRROR={tmp_path}`"
    assert (
        lines.pop()
        == f"{command} downloads what is missing; if you have the files in another folder, set MIRROR=FOLDER"
    )
    assert len(lines) == len(parts)
    assert all(any(part in line for line in lines) for part in parts)


def test_files_of_the_user_are_inputs(tmp_path: Path) -> None:
    (tmp_path / "devign").mkdir()
    (tmp_path / "devign/test.jsonl").write_text("{}\n")
    dataset = {"task": "defect_detection", "source": "mirror", "language": "c", "resplit": True}
    raw = {**DEFAULT, "mirror": str(tmp_path), "datasets": {**DEFAULT["datasets"], "defects": dataset}}
    raw["helpers"] = {**DEFAULT["helpers"], "language_model": str(tmp_path / "gpt2")}
    uncalibrated = {"method": "elibadcode"}
    raw["eliminations"] = {
        **DEFAULT["eliminations"],
        **dict.fromkeys(("elibadcode", "elibadcode_extended"), uncalibrated),
    }
    raw["experiments"] = {"defects": DEFAULT["experiments"]["defects"]}
    (tmp_path / "gpt2").mkdir()
    names = ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "merges.txt")
    for name in names:
        (tmp_path / "gpt2" / name).touch()
    (tmp_path / "gpt2/config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "gpt2/vocab.json").write_text('{"a": 0}')
    study = Dag(validate(raw))
    study.check_files()
    dataset = {"task": "defect_detection", "source": "jsonl", "language": "c", "path": str(tmp_path / "devign")}
    mine = Dag(validate({**raw, "datasets": {**DEFAULT["datasets"], "defects": dataset | {"resplit": True}}}))
    assert mine.data.dataset.inputs(wildcards())["rows"] == [str(tmp_path / "devign/test.jsonl")]
    helpers = study.defend.rewrite.inputs(wildcards(purification="onion"))["helpers"]
    assert {Path(path).name for path in helpers} == {*names, "config.json", "vocab.json"}


def test_a_data_set_without_an_attack_has_the_clean_test_set_alone() -> None:
    raw = {**DEFAULT, "experiments": {"mine": {"title": "t", "grid": [GRID]}}}
    assert list(Dag(validate(raw)).testsets.of(wildcards())) == ["clean"]


def test_missing_files_that_no_rule_makes_are_reported_before_a_run() -> None:
    raw = {
        **DEFAULT,
        "tokenizer": "nowhere.json",
        "corpus": None,
        "experiments": {"mine": {"title": "t", "grid": [GRID]}},
    }
    with pytest.raises(UserError, match=r"(?s)tokenizer: nowhere\.json: no such file.*needs the section `corpus`"):
        Dag(validate(raw)).check_files()


@pytest.mark.parametrize(
    ("section", "variant", "key", "value", "made_with"),
    [
        ("eliminations", "elibadcode", "restarts", 9, "3"),
        ("datasets", "defects", "train", 2000, "12000"),
        ("models", "codebert", "epochs", 1, "3"),
    ],
)
def test_a_calibration_of_another_search_data_set_or_recipe_is_refused_before_a_run(
    section: str, variant: str, key: str, value: int, made_with: str
) -> None:
    changed = {**DEFAULT[section], variant: {**DEFAULT[section][variant], key: value}}
    message = rf"{section}\.{variant}: {key} is {value}, but .*defects\.json was made with {made_with}"
    with pytest.raises(UserError, match=message):
        Dag(validate({**DEFAULT, section: changed})).check_files()


def test_a_calibration_holds_for_another_draw() -> None:
    changed = {**DEFAULT["datasets"], "defects": {**DEFAULT["datasets"]["defects"], "seed": 9, "test": 10}}
    Dag(validate({**DEFAULT, "datasets": changed})).check_files()


def test_a_calibration_that_the_run_makes_is_not_checked_but_made_again(tmp_path: Path) -> None:
    calibration = tmp_path / "calibration/defects/codebert/elibadcode.json"
    calibration.parent.mkdir(parents=True)
    calibration.write_text("{}")
    changed = {**DEFAULT["eliminations"]["elibadcode"], "restarts": 9, "calibration": str(calibration)}
    raw = {**DEFAULT, "out": str(tmp_path), "eliminations": {**DEFAULT["eliminations"], "elibadcode": changed}}
    Dag(validate(raw)).check_files()


def test_a_calibration_that_holds_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("[]")
    changed = {**DEFAULT["eliminations"]["elibadcode"], "calibration": str(tmp_path / "mine.json")}
    raw = {**DEFAULT, "eliminations": {**DEFAULT["eliminations"], "elibadcode": changed}}
    with pytest.raises(UserError, match=r"mine\.json: expected a JSON object, not \[\]"):
        Dag(validate(raw)).check_files()


def test_a_calibration_depends_on_the_search_alone() -> None:
    changed = {**DEFAULT["eliminations"]["elibadcode"], "beta": 0.1, "calibration": "runs/local/calibration/x.json"}
    fewer_samples = {**DEFAULT["eliminations"]["elibadcode"], "samples": 3}
    before, after, more = (
        Dag(
            validate({**DEFAULT, "eliminations": {**DEFAULT["eliminations"], "elibadcode": settings}})
        ).defend.calibrate_settings(wildcards(elimination="elibadcode"))
        for settings in (DEFAULT["eliminations"]["elibadcode"], changed, fewer_samples)
    )
    assert before == after != more


def test_shadows_are_benign_and_have_their_own_seeds(dag: Dag) -> None:
    folders = dag.defend.shadows(wildcards(elimination="elibadcode"))
    assert folders["101"] == "runs/local/models/defects/codebert/none-0/seed101/none/cross_entropy/none"
    assert not set(folders) & {scenario.seed for scenario in dag.config.scenarios()}


def test_a_job_that_is_tried_again_asks_for_more_but_never_for_more_than_a_day(dag: Dag) -> None:
    small, large = wildcards(purification="onion"), wildcards(model="hub", purification="onion")
    checkpoint = {"architecture": "codebert", "base": "microsoft/codebert-base", "revision": "0" * 40}
    raw = {**DEFAULT, "models": {**DEFAULT["models"], "hub": checkpoint}}
    raw["helpers"] = {**DEFAULT["helpers"], "language_model": f"gpt2@{'0' * 40}"}
    hub = Dag(validate(raw))
    for study, job, first in ((dag, small, 2500), (hub, large, 24000)):
        for resources in (study.resources.victim, study.resources.helpers("purification")):
            megabytes, minutes = resources["mem_mb"], resources["runtime"]
            assert [megabytes(job, attempt) for attempt in (1, 2, 3)] == [first, 2 * first, 3 * first]
            runtimes = [minutes(job, attempt) for attempt in (1, 2, 3)]
            assert runtimes == ([60, 120, 180] if first == 2500 else [480, 960, MAX_RUNTIME])
    accelerators = [study.resources.victim["gpu"](job) for study, job in ((dag, small), (hub, large), (hub, small))]
    assert accelerators == [0, 1, 0]
    fixed = dag.resources.fixed(mem_mb=500, runtime=10)
    assert [fixed["mem_mb"](small, attempt) for attempt in (1, 2, 3)] == [500, 1000, 1500]
    assert [fixed["runtime"](small, attempt) for attempt in (1, 2, 3)] == [10, 20, 30]
    assert fixed["gpu"](small) == 0


def test_an_unknown_archive_is_named() -> None:
    raw = {**DEFAULT, "corpus": {"archives": ["sympy-1.21"]}}
    with pytest.raises(UserError, match=r"corpus\.archives: unknown archive 'sympy-1\.21'; did you mean 'sympy-1\.1"):
        Dag(validate(raw)).check_files()


def test_unequal_vocabularies_are_refused() -> None:
    pretraining = {**DEFAULT["pretraining"], "causal": {"family": "causal", "vocabulary": 1000}}
    with pytest.raises(UserError, match="one tokenizer serves all families"):
        Dag(validate({**DEFAULT, "pretraining": pretraining})).parameters.vocabulary()


def test_a_run_folder_that_is_a_file_is_reported_before_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"out: {tmp_path}/file is a file; write a folder"):
        Dag(validate({**DEFAULT, "out": f"{tmp_path}/file/runs/local"})).check_files()
    Dag(validate({**DEFAULT, "out": f"{tmp_path}/new/runs/local"})).check_files()


def test_statistics_read_the_clean_samples_and_the_victims_tokenizer(dag: Dag) -> None:
    inputs = dag.data.statistics.inputs(wildcards(dataset="search"))
    assert inputs["clean"] == "runs/local/data/search/clean.jsonl"
    assert any(path.startswith("basemodels/encoder/") for path in inputs["base"])


def test_a_trigger_is_inverted_once_for_all_that_differ_in_what_is_done_with_the_walks() -> None:
    config = load([ROOT / "config.yaml", ROOT / "configs/elibadcode.yaml"])
    grid = Dag(config)
    victim = {"attack": "codepoisoner_func", "rate": "0.02"}

    def inverted(elimination: str, **values: str) -> list[str]:
        inputs = grid.defend.eliminate.inputs(wildcards(**(victim | {"elimination": elimination} | values)))
        return list(inputs.get("inverted", []))

    folder = "runs/elibadcode/models/defects/codebert/codepoisoner_func-0.02/seed1/none/cross_entropy/elibadcode"
    assert inverted("elibadcode_rate_20") == [
        f"{folder}/{file}.json" for file in ("trigger", "elimination", "provenance")
    ]
    scenario = wildcards(**victim, elimination="elibadcode_rate_20")
    assert option(grid.defend.eliminate.options(scenario), "--inverted") == [folder]
    # other positions and rounds
    assert inverted("elibadcode_extended") == inverted("elibadcode_rate_20")
    # other anchoring, or another number of steps: not from the elimination that waits for a calibration
    for name in ("unanchored", "fewer_steps", "more_steps"):
        assert inverted(f"elibadcode_{name}")[0] == f"{folder}_uncalibrated/trigger.json"
    # also its trigger, from the elimination with the same settings
    assert inverted("elibadcode_samples_20")[0] == f"{folder}_uncalibrated/trigger.json"
    # the first elimination, and another search
    searching = ("elibadcode", "elibadcode_uncalibrated", "elibadcode_k_16", "elibadcode_paper_vocabulary", "dbs")
    assert all(inverted(name) == [] for name in searching)
    # without an earlier elimination of the victim, there is nothing to reuse, and no job is added for it
    assert inverted("elibadcode_rate_20", seed="7") == []


def test_searches_are_reused_from_the_same_search_first_and_never_at_the_cost_of_waiting() -> None:
    search = EliBadCodeSettings(method="elibadcode", patience=8)
    variants = {
        "one": search,
        "other": search.model_copy(update={"beta": 0.0}),
        "as_other": search.model_copy(update={"beta": 0.0, "unlearn_when_clean": True}),
        "longer": search.model_copy(update={"iterations": 200}),
    }
    earlier = searched_before(variants)
    assert earlier["as_other"] == ("other", "one")
    assert earlier["longer"] == ("one", "other", "as_other")
    earlier = searched_before({name: first.model_copy(update={"patience": None}) for name, first in variants.items()})
    assert (earlier["other"], earlier["longer"]) == (("one",), ())

    paper = Dag(load([ROOT / "config.yaml", ROOT / "configs/elibadcode.yaml", ROOT / "configs/elibadcode/paper.yaml"]))
    victim = {"attack": "codepoisoner_func", "rate": "0.02", "seed": "42"}
    first, second, same = (
        paper.defend.eliminate.inputs(wildcards(**victim, elimination=f"elibadcode{name}"))
        for name in ("", "_uncalibrated", "_least_sensitive")
    )
    assert "/calibration/" in first["calibration"]
    assert "inverted" not in first | second
    assert same["inverted"]


def test_the_first_elimination_of_a_victim_searches_for_the_others() -> None:
    variants = {f"rate_{rate}": {"method": "elibadcode", "unlearning": {"rate": rate / 100}} for rate in (5, 10, 20)}
    grid = {"datasets": ["defects"], "models": ["codebert"], "attacks": ["none"]}
    # `rate_5`, the first with this search, has one victim, and the others have two
    grids = [grid | {"eliminations": list(variants)}, grid | {"seeds": [2], "eliminations": ["rate_10", "rate_20"]}]
    experiments = dict.fromkeys(DEFAULT["experiments"]) | {"rates": {"title": "Rates", "grid": grids}}
    study = Dag(validate({**DEFAULT, "eliminations": variants, "experiments": experiments}))

    def searched(elimination: str, seed: str) -> list[str]:
        files = study.defend.eliminate.inputs(wildcards(elimination=elimination, seed=seed)).get("inverted", [])
        return [path.split("/")[-2] for path in files if path.endswith("trigger.json")]

    assert [searched(name, "1") for name in variants] == [[], ["rate_5"], ["rate_5"]]
    assert [searched(name, "2") for name in ("rate_10", "rate_20")] == [[], ["rate_10"]]


def test_a_method_without_its_code_is_named_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(preflight.MODULES, "attack", "attacks.{}.unwritten")
    message = r"codepoisoner_func: the method codepoisoner_identifier has settings, but .*/unwritten\.py is missing"
    with pytest.raises(UserError, match=message):
        Dag(validate(DEFAULT)).check_files()


def test_a_calibration_of_another_data_set_says_so_first(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.jsonl").touch()
    mine = {"task": "defect_detection", "source": "jsonl", "path": str(tmp_path)}
    with pytest.raises(UserError) as caught:
        Dag(validate({**DEFAULT, "datasets": {**DEFAULT["datasets"], "defects": mine}})).check_files()
    assert (
        "was made with another data set (defect_detection, pypi, python) than datasets.defects (defect_detection, "
        "jsonl, python); write `eliminations.elibadcode.calibration: "
    ) in str(caught.value)
    assert "mix" not in str(caught.value)


def test_rows_of_every_data_set_of_ones_own_are_read(tmp_path: Path) -> None:
    row = {"id": "1", "language": "python", "code": "def f():\n    pass\n", "label": 0}
    rows = {"train": row, "valid": row | {"id": "2", "label": 2}, "test": row}
    for split, content in rows.items():
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(content) + "\n")
    mine = {"task": "defect_detection", "source": "jsonl", "path": str(tmp_path), "text_form": "raw"}
    unused = validate({**DEFAULT, "datasets": {**DEFAULT["datasets"], "mine": mine}})
    label, twice = Dag(unused).check_rows()
    assert label.startswith(f"{tmp_path}/valid.jsonl: row '2' ")
    assert "label" in label
    assert twice.startswith(f"{tmp_path}/test.jsonl: row '1' occurs twice")
    (tmp_path / "train.jsonl").write_text("{\n")
    assert Dag(unused).check_rows()[0].startswith(f"{tmp_path}/train.jsonl:1: ")
    (tmp_path / "train.jsonl").unlink()
    (missing,) = Dag(unused).check_rows()
    assert "train.jsonl" in missing
    Dag(unused).check_files()
