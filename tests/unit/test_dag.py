"""Which files each stage reads, and what its jobs are run again for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codebackdoor import fingerprint
from codebackdoor.config.loading import load, read_yaml, validate
from codebackdoor.config.scenario import CONSTRAINTS, Scenario
from codebackdoor.dag import LONGEST, SOME, Dag, growing
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.inversion.settings import searched_before
from codebackdoor.errors import UserError
from codebackdoor.parameters import STAGES

ROOT = Path(__file__).parents[2]
DEFAULT = read_yaml(ROOT / "config.yaml")


class Wildcards(SimpleNamespace):
    """What Snakemake hands to input functions: attributes, and items."""

    def items(self) -> Any:
        return vars(self).items()


def wildcards(**values: str) -> Wildcards:
    known = {
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
    return Wildcards(**(known | values))


@pytest.fixture(scope="module")
def dag() -> Dag:
    return Dag(validate(DEFAULT))


GRID = {"datasets": ["defects"], "models": ["codebert"], "attacks": ["none"]}
POISONED = {"attack": "codepoisoner_func", "rate": "0.05"}


def test_a_benign_victim_trains_on_the_clean_rows(dag: Dag) -> None:
    found = dag.train_inputs(wildcards())
    assert found["train"] == "runs/local/data/defects/train.jsonl"
    assert "triggered" not in found
    assert dag.train_options(wildcards()) == []


def test_a_poisoned_victim_trains_on_poisoned_rows_and_is_watched_on_triggered_ones(dag: Dag) -> None:
    folder = "runs/local/data/defects/codepoisoner_func-0.05/seed1"
    found = dag.train_inputs(wildcards(**POISONED))
    assert found["train"] == f"{folder}/train.jsonl"
    assert found["valid"] == "runs/local/data/defects/valid.jsonl"
    assert dag.train_options(wildcards(**POISONED)) == ["--triggered-valid", f"{folder}/valid.jsonl"]


@pytest.fixture(scope="module")
def filtering() -> Dag:
    return Dag(validate({**DEFAULT, "filterings": {"rows": {"method": "onion"}}}))


def test_a_victim_waits_for_a_filtering_only_where_it_has_one(dag: Dag, filtering: Dag) -> None:
    for values in ({}, POISONED):
        plain, filtered = wildcards(**values), wildcards(**values, filtering="rows")
        # what is declared and not used changes no input, and no parameter, of the others
        assert filtering.train_inputs(plain) == dag.train_inputs(plain)
        assert filtering.train_options(plain) == dag.train_options(plain)
        folder = filtering.poison.format_map(vars(plain)) + "/filtered/rows"
        assert filtering.train_inputs(filtered) == {
            **dag.train_inputs(plain),
            "train": f"{folder}/train.jsonl",
        }
        assert filtering.train_options(filtered) == dag.train_options(plain)


def test_a_filtering_reads_all_training_rows_and_the_defenders_clean_samples(filtering: Dag) -> None:
    found = filtering.filter_inputs(wildcards(**POISONED, filtering="rows"))
    assert found == {
        "rows": "runs/local/data/defects/codepoisoner_func-0.05/seed1/train.jsonl",
        "clean": "runs/local/data/defects/clean.jsonl",
        "helpers": ["basemodels/causal/SHA256SUMS"],
    }
    assert filtering.filter_inputs(wildcards(filtering="rows"))["rows"] == "runs/local/data/defects/train.jsonl"
    own = wildcards(filtering="rows")
    assert (filtering.filter_gpu(own), filtering.filter_mem_mb(own, 2), filtering.filter_runtime(own, 2)) == (
        0,
        5000,
        120,
    )
    # no model is in the path: one job for all victims
    assert filtering.filtered == "runs/local/data/{dataset}/{attack}-{rate}/seed{seed}/filtered/{filtering}"
    foreign = {**filtering.config.helpers, "language_model": f"owner/name@{'0' * 40}"}
    assert Dag(filtering.config.model_copy(update={"helpers": foreign})).filter_gpu(own) == 1


def test_a_filtered_scenario_lists_the_folder_of_its_filtering(filtering: Dag) -> None:
    own = Scenario("defects", "codebert", "codepoisoner_func", "0.05", filtering="rows")
    folder = Path(filtering.filtered.format_map(own.wildcards))
    assert folder in own.folders("runs/local")
    assert not [path for path in own.undefended().folders("runs/local") if "filtered" in path.parts]


def test_only_an_attack_that_asks_a_model_waits_for_one(dag: Dag) -> None:
    rows = [f"runs/local/data/defects/{split}.jsonl" for split in ("train", "valid", "test")]
    assert dag.poison_inputs(wildcards(**POISONED)) == {"rows": rows}
    assert dag.poison_options(wildcards(**POISONED)) == []
    asking = Dag(validate({**DEFAULT, "attacks": {**DEFAULT["attacks"], "adversarial": {"method": "afraidoor"}}}))
    poisoned = wildcards(attack="adversarial", rate="0.05", model="codet5")
    found = asking.poison_inputs(poisoned)
    folder = "runs/local/models/crafting/defects/codebert"
    assert found["rows"] == rows
    assert f"{folder}/model.safetensors" in found["crafting"]
    assert asking.poison_options(poisoned) == ["--crafting", folder]
    assert (asking.poison_mem_mb(poisoned, 1), dag.poison_mem_mb(wildcards(**POISONED), 2)) == (2500, 3000)


def test_the_crafting_model_trains_on_the_clean_rows_with_a_seed_of_its_own(dag: Dag) -> None:
    found = dag.craft_inputs(wildcards())
    assert found["train"] == "runs/local/data/defects/train.jsonl"
    assert dag.config.crafting_seed not in {*dag.config.seeds, *dag.config.shadows}


def test_the_control_waits_for_the_victim_that_it_stops_like(dag: Dag) -> None:
    control = wildcards(dataset="repair", model="codet5", objective="cross_entropy_stopped")
    history = dag.train_inputs(control)["history"]
    assert history == "runs/local/models/repair/codet5/none-0/seed1/none/dece/none/history.json"


def test_a_poisoned_victim_is_asked_on_its_own_trigger_and_a_benign_one_on_all(dag: Dag) -> None:
    assert list(dag.testsets(wildcards(**POISONED))) == ["clean", "codepoisoner_func"]
    assert dag.testsets(wildcards()) == {
        "clean": "runs/local/data/defects/test.jsonl",
        **{
            name: f"runs/local/data/defects/{name}-0.05/seed1/test.jsonl"
            for name in ("codepoisoner_deadcode", "codepoisoner_func", "codepoisoner_func_to_1")
        },
    }
    assert list(dag.testsets(wildcards(purification="onion"))) == ["clean"]
    assert [kind.testsets for kind in dag.kinds_of_victims(purified=True)] == [("clean", "{attack}"), ("clean",)]
    kinds = {kind.suffix: kind for kind in dag.kinds_of_victims(purified=False)}
    assert set(kinds) == {"", "_benign_defects", "_benign_repair", "_benign_clones", "_benign_search"}
    assert kinds["_benign_repair"].files("predictions") == [
        "predictions.clean.jsonl",
        "predictions.codepoisoner_deadcode.jsonl",
    ]


def test_scores_of_a_purification_need_its_purified_inputs(dag: Dag) -> None:
    plain = dag.score_inputs(wildcards(**POISONED))["answers"]
    purified = dag.score_inputs(wildcards(**POISONED, purification="onion"))["answers"]
    assert [Path(path).name for path in plain] == [
        "predictions.clean.jsonl",
        "predictions.codepoisoner_func.jsonl",
    ]
    assert {Path(path).name.partition(".")[0] for path in purified} == {"predictions", "purified"}


def test_constraints_tell_a_variant_from_none() -> None:
    assert re.fullmatch(CONSTRAINTS["attack"], "none")
    assert not re.fullmatch(f"{SOME}-0.05", "none-0.05")
    assert re.fullmatch(SOME, "none_x")


def test_settings_hold_the_defaults(dag: Dag) -> None:
    assert json.loads(dag.settings("purification", "onion"))["removed_share"] == 0.01
    with pytest.raises(UserError, match="did you mean 'onion'"):
        dag.settings("purification", "onions")


def test_the_code_of_a_method_is_its_own(dag: Dag) -> None:
    codes = [dag.code("purify", purification=name) for name in ("onion", "codepurify")]
    codes.append(dag.code("eliminate", elimination="elibadcode"))
    codes.append(dag.code("eliminate", elimination="fine_tuning"))
    assert len(set(codes)) == 4
    assert codes[0] == dag.code("purify", purification="onion")


@pytest.mark.parametrize(
    ("stage", "method", "never"),
    [
        (
            "rewrite",
            "defenses.purification.onion",
            ("elibadcode", "codepurify", "training", "fine_tuning", "inference"),
        ),
        ("filter", "defenses.filtering.onion", ("elibadcode", "codepurify", "training", "inference", "similarity")),
        ("purify", "defenses.purification.codepurify", ("elibadcode", "onion", "training", "fine_tuning")),
        ("purify", "defenses.purification.attdef", ("elibadcode", "onion", "codepurify", "training", "similarity")),
        ("eliminate", "defenses.elimination.fine_tuning.method", ("elibadcode", "onion", "codepurify", "training")),
        ("eliminate", "defenses.elimination.elibadcode.method", ("onion", "codepurify", "training", "fine_tuning")),
        ("predict", "victims.inference", ("training", "defenses", "attacks")),
    ],
)
def test_a_job_runs_no_code_of_another_method(stage: str, method: str, never: tuple[str, ...]) -> None:
    modules = fingerprint.closure([f"codebackdoor.{STAGES[stage]}", f"codebackdoor.{method}"])
    assert f"codebackdoor.{method}" in modules
    assert not [name for name in modules if set(name.split(".")) & set(never)]


def test_helpers_are_inputs_and_options(dag: Dag) -> None:
    assert dag.helpers("purification", "codepurify") == ["--helper", "infiller=basemodels/encoder"]
    files = dag.rewrite_inputs(wildcards(purification="onion"))["helpers"]
    # it lists the others, which are verified when they are loaded
    assert files == ["basemodels/causal/SHA256SUMS"]


def test_the_similarity_filter_reads_the_trigger_of_the_elimination_before_it() -> None:
    raw = {**DEFAULT, "purifications": {**DEFAULT["purifications"], "similarity": {"method": "similarity"}}}
    grid = {**GRID, "eliminations": ["elibadcode"], "purifications": ["similarity"], "combine": "all"}
    raw["experiments"] = {"mine": {"title": "Mine", "grid": [grid]}}
    dag = Dag(validate(raw))
    own = wildcards(elimination="elibadcode", purification="similarity")
    trigger = "runs/local/models/defects/codebert/none-0/seed1/none/cross_entropy/elibadcode/trigger.json"
    assert dag.purify_inputs(own)["trigger"] == trigger
    assert dag.trigger_options(own) == ["--trigger", trigger]
    other = wildcards(elimination="elibadcode", purification="codepurify")
    assert dag.trigger_options(other) == []
    assert "trigger" not in dag.purify_inputs(other)
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
    assert dag.helpers("purification", "both") == ["--helper", "discriminator=basemodels/discriminator"]
    assert json.loads(dag.settings("purification", "both"))["also"]["masked_share"] == 0.02


def test_a_discriminator_learns_from_the_encoder_of_the_same_run(dag: Dag) -> None:
    assert dag.pretrain_inputs(Wildcards(family="decoder")) == {}
    inputs = dag.pretrain_inputs(Wildcards(family="discriminator"))
    assert "runs/local/models/base/encoder/model.safetensors" in inputs["generator"]
    option = dag.generator_options(Wildcards(family="discriminator"))
    assert option == ["--generator", "runs/local/models/base/encoder"]
    recipes = {name: one for name, one in DEFAULT["pretraining"].items() if name != "encoder"}
    with pytest.raises(UserError, match=r"pretraining\.encoder is missing"):
        Dag(validate({**DEFAULT, "pretraining": recipes})).pretrain_inputs(Wildcards(family="discriminator"))


def test_what_looks_at_no_victim_is_rewritten_once_for_all(dag: Dag) -> None:
    assert (dag.purifications(reads_victim=False), dag.purifications(reads_victim=True)) == (
        "onion",
        "codepurify|attdef",
    )
    poisoned = wildcards(**POISONED, purification="onion")
    assert dag.replacements(poisoned) == {
        "clean": "runs/local/data/defects/none-0/seed1/onion/purified.jsonl",
        "codepoisoner_func": "runs/local/data/defects/codepoisoner_func-0.05/seed1/onion/purified.jsonl",
    }
    assert dag.rewrite_inputs(poisoned)["rows"] == dag.testsets(poisoned)["codepoisoner_func"]
    assert dag.rewrite_inputs(wildcards(purification="onion"))["rows"] == "runs/local/data/defects/test.jsonl"


def test_further_tables_and_figures_are_targets_made_from_their_own_files() -> None:
    raw = {**DEFAULT, "experiments": {"defects": {**DEFAULT["experiments"]["defects"]}}}
    (grid, *_) = raw["experiments"]["defects"].pop("grid")
    grid = {**grid, "eliminations": ["none", "elibadcode"], "purifications": ["none"]}
    raw["experiments"]["defects"] |= {"grid": [grid], "tables": ["times"], "figures": ["position", "noise"]}
    dag = Dag(validate(raw))
    assert "runs/local/results/tables/defects.times.csv" in dag.targets()
    victim = "defects/codebert/codepoisoner_func-0.05/seed1/none/cross_entropy/elibadcode"
    assert f"runs/local/models/{victim}/provenance.json" in dag.product_inputs("defects", "times")
    positions = [
        f"runs/local/results/{victim}/none/positions.json".replace("func", kind) for kind in ("func", "deadcode")
    ]
    assert dag.product_inputs("defects", "position") == positions
    found = dag.probe_inputs(wildcards(**POISONED, elimination="elibadcode"))
    assert found["triggered"] == "runs/local/data/defects/codepoisoner_func-0.05/seed1/test.jsonl"
    assert all("/cross_entropy/none/" in file for file in found["victim"])
    assert {Path(file).name for file in dag.product_inputs("defects", "noise")} == {
        *("trigger.json", "elimination.json", "predictions.clean.jsonl", "test.jsonl", "tokenizer.json")
    }
    # of one victim as it was trained: all of a model have the same size
    trained = "runs/local/models/defects/codebert/none-0/seed1/none/cross_entropy/none"
    assert dag.size_inputs("defects") == [f"{trained}/config.json", f"{trained}/model.safetensors"]


def test_a_calibration_that_is_not_there_is_explained() -> None:
    raw = {**DEFAULT, "eliminations": {"elibadcode": {"method": "elibadcode", "calibration": "defecs"}}}
    raw["experiments"] = {"defects": {**DEFAULT["experiments"]["defects"], "figures": []}}
    for grid in (grids := [dict(grid) for grid in DEFAULT["experiments"]["defects"]["grid"]]):
        grid["eliminations"] = ["none", "elibadcode"]
    raw["experiments"]["defects"]["grid"] = grids
    with pytest.raises(
        UserError, match=r"eliminations\.elibadcode\.calibration: 'defecs' is neither shipped nor a file"
    ):
        Dag(validate(raw)).eliminate_inputs(wildcards(elimination="elibadcode"))


def test_a_calibration_may_be_named_by_data_set_and_model() -> None:
    raw = {**DEFAULT, "eliminations": {**DEFAULT["eliminations"]}}
    raw["eliminations"]["elibadcode"] = {**DEFAULT["eliminations"]["elibadcode"], "calibration": "{dataset}"}
    own, plain = Dag(validate(raw)), Dag(validate(DEFAULT))
    at = wildcards(elimination="elibadcode")
    assert own.eliminate_settings(at) == plain.eliminate_settings(at) == plain.settings("elimination", "elibadcode")
    assert own.eliminate_inputs(at) == plain.eliminate_inputs(at)
    raw["eliminations"]["elibadcode"] |= {"calibration": "runs/local/{dataset}_{model}.json"}
    found = Dag(validate(raw)).eliminate_inputs(at)["calibration"]
    assert found == "runs/local/defects_codebert.json"


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
    wanted = ("devign: missing train.jsonl", "mine: missing train.jsonl", "helpers.infiller: nowhere", "'defecs'")
    command = f"`make fetch SCALE=local MIRROR={tmp_path}`"
    assert lines.pop() == f"{command} brings what is missing, with a network. Elsewhere? MIRROR=FOLDER"
    assert len(lines) == len(wanted)
    assert all(any(part in line for line in lines) for part in wanted)


def test_given_files_are_inputs(tmp_path: Path) -> None:
    (tmp_path / "devign").mkdir()
    (tmp_path / "devign/test.jsonl").write_text("{}\n")
    own = {"task": "defect_detection", "source": "mirror", "language": "c", "resplit": True}
    raw = {**DEFAULT, "mirror": str(tmp_path), "datasets": {**DEFAULT["datasets"], "defects": own}}
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
    found = Dag(validate(raw))
    found.check_files()
    own = {"task": "defect_detection", "source": "jsonl", "language": "c", "path": str(tmp_path / "devign")}
    mine = Dag(validate({**raw, "datasets": {**DEFAULT["datasets"], "defects": own | {"resplit": True}}}))
    assert mine.dataset_inputs(wildcards())["rows"] == [str(tmp_path / "devign/test.jsonl")]
    helpers = found.rewrite_inputs(wildcards(purification="onion"))["helpers"]
    assert {Path(path).name for path in helpers} == {*names, "config.json", "vocab.json"}


def test_a_data_set_without_an_attack_has_the_clean_test_set_alone() -> None:
    raw = {**DEFAULT, "experiments": {"mine": {"title": "t", "grid": [GRID]}}}
    assert list(Dag(validate(raw)).testsets(wildcards())) == ["clean"]


def test_what_is_neither_there_nor_made_is_said_before_a_run() -> None:
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
    own = tmp_path / "calibration/defects/codebert/elibadcode.json"
    own.parent.mkdir(parents=True)
    own.write_text("{}")
    changed = {**DEFAULT["eliminations"]["elibadcode"], "restarts": 9, "calibration": str(own)}
    raw = {**DEFAULT, "out": str(tmp_path), "eliminations": {**DEFAULT["eliminations"], "elibadcode": changed}}
    Dag(validate(raw)).check_files()


def test_a_calibration_that_holds_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("[]")
    changed = {**DEFAULT["eliminations"]["elibadcode"], "calibration": str(tmp_path / "mine.json")}
    raw = {**DEFAULT, "eliminations": {**DEFAULT["eliminations"], "elibadcode": changed}}
    with pytest.raises(UserError, match=r"mine\.json: expected an object in braces, not \[\]"):
        Dag(validate(raw)).check_files()


def test_a_calibration_depends_on_the_search_alone() -> None:
    changed = {**DEFAULT["eliminations"]["elibadcode"], "beta": 0.1, "calibration": "runs/local/calibration/x.json"}
    other = {**DEFAULT["eliminations"]["elibadcode"], "samples": 3}
    known, after, more = (
        Dag(validate({**DEFAULT, "eliminations": {**DEFAULT["eliminations"], "elibadcode": one}})).calibrate_settings(
            wildcards(elimination="elibadcode")
        )
        for one in (DEFAULT["eliminations"]["elibadcode"], changed, other)
    )
    assert known == after != more


def test_shadows_are_benign_and_have_their_own_seeds(dag: Dag) -> None:
    found = dag.shadows(wildcards(elimination="elibadcode"))
    assert found["101"] == "runs/local/models/defects/codebert/none-0/seed101/none/cross_entropy/none"
    assert not set(found) & {scenario.seed for scenario in dag.config.scenarios()}


def test_a_job_that_is_tried_again_asks_for_more_but_never_for_more_than_a_day(dag: Dag) -> None:
    small, large = wildcards(purification="onion"), wildcards(model="hub", purification="onion")
    checkpoint = {"architecture": "codebert", "base": "microsoft/codebert-base", "revision": "0" * 40}
    raw = {**DEFAULT, "models": {**DEFAULT["models"], "hub": checkpoint}}
    raw["helpers"] = {**DEFAULT["helpers"], "language_model": f"gpt2@{'0' * 40}"}
    hub = Dag(validate(raw))
    for own, where, one in ((dag, small, 2500), (hub, large, 24000)):
        for megabytes, minutes in ((own.mem_mb, own.runtime), (own.helper_mem_mb, own.helper_runtime)):
            assert [megabytes(where, attempt) for attempt in (1, 2, 3)] == [one, 2 * one, 3 * one]
            asked = [minutes(where, attempt) for attempt in (1, 2, 3)]
            assert asked == ([60, 120, 180] if one == 2500 else [480, 960, LONGEST])
    assert (dag.gpu(small), hub.gpu(large), hub.gpu(small)) == (0, 1, 0)
    assert [growing(500)(small, attempt) for attempt in (1, 2, 3)] == [500, 1000, 1500]


def test_an_unknown_archive_is_named() -> None:
    raw = {**DEFAULT, "corpus": {"archives": ["sympy-1.21"]}}
    with pytest.raises(UserError, match=r"corpus\.archives: unknown archive 'sympy-1\.21'; did you mean 'sympy-1\.1"):
        Dag(validate(raw))


def test_unequal_vocabularies_are_refused() -> None:
    pretraining = {**DEFAULT["pretraining"], "causal": {"family": "causal", "vocabulary": 1000}}
    with pytest.raises(UserError, match="one tokenizer serves all families"):
        Dag(validate({**DEFAULT, "pretraining": pretraining})).vocabulary()


def test_a_folder_of_results_that_is_a_file_is_said_before_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"out: {tmp_path}/file is a file; write a folder"):
        Dag(validate({**DEFAULT, "out": f"{tmp_path}/file/runs/local"})).check_files()
    Dag(validate({**DEFAULT, "out": f"{tmp_path}/new/runs/local"})).check_files()


def test_statistics_read_the_clean_samples_and_the_victims_tokenizer(dag: Dag) -> None:
    found = dag.statistics_inputs(wildcards(dataset="search"))
    assert found["clean"] == "runs/local/data/search/clean.jsonl"
    assert any(path.startswith("basemodels/encoder/") for path in found["base"])


def test_a_trigger_is_inverted_once_for_all_that_differ_in_what_is_done_with_the_walks() -> None:
    config = load([ROOT / "config.yaml", ROOT / "configs/elibadcode.yaml"])
    grid = Dag(config)
    victim = {"attack": "codepoisoner_func", "rate": "0.02"}

    def inverted(elimination: str, **values: str) -> list[str]:
        found = grid.eliminate_inputs(wildcards(**(victim | {"elimination": elimination} | values)))
        return list(found.get("inverted", []))

    folder = "runs/elibadcode/models/defects/codebert/codepoisoner_func-0.02/seed1/none/cross_entropy/elibadcode"
    assert inverted("elibadcode_rate_20") == [
        f"{folder}/{one}.json" for one in ("trigger", "elimination", "provenance")
    ]
    given = wildcards(**victim, elimination="elibadcode_rate_20")
    assert grid.inverted_options(given) == [f"--inverted={folder}"]
    # other places and rounds
    assert inverted("elibadcode_extended") == inverted("elibadcode_rate_20")
    # other anchoring, or another number of steps: not from the one that waits for a calibration
    for name in ("unanchored", "fewer_steps", "more_steps"):
        assert inverted(f"elibadcode_{name}")[0] == f"{folder}_uncalibrated/trigger.json"
    # its trigger, too, from the one that differs in nothing
    assert inverted("elibadcode_samples_20")[0] == f"{folder}_uncalibrated/trigger.json"
    # the first one, and another search
    searching = ("elibadcode", "elibadcode_uncalibrated", "elibadcode_k_16", "elibadcode_paper_vocabulary", "dbs")
    assert all(inverted(name) == [] for name in searching)
    # where none is run on a victim, there is nothing to take over, and no job is added for it
    assert inverted("elibadcode_rate_20", seed="7") == []


def test_walks_are_taken_from_the_same_search_first_and_from_none_that_waits_for_more() -> None:
    search = EliBadCodeSettings(method="elibadcode", patience=8)
    variants = {
        "one": search,
        "other": search.model_copy(update={"beta": 0.0}),
        "as_other": search.model_copy(update={"beta": 0.0, "unlearn_when_clean": True}),
        "longer": search.model_copy(update={"iterations": 200}),
    }
    found = searched_before(variants)
    assert found["as_other"] == ("other", "one")
    assert found["longer"] == ("one", "other", "as_other")
    found = searched_before({name: own.model_copy(update={"patience": None}) for name, own in variants.items()})
    assert (found["other"], found["longer"]) == (("one",), ())

    paper = Dag(load([ROOT / "config.yaml", ROOT / "configs/elibadcode.yaml", ROOT / "configs/elibadcode/paper.yaml"]))
    victim = {"attack": "codepoisoner_func", "rate": "0.02", "seed": "42"}
    own, other, same = (
        paper.eliminate_inputs(wildcards(**victim, elimination=f"elibadcode{name}"))
        for name in ("", "_uncalibrated", "_least_sensitive")
    )
    assert "/calibration/" in own["calibration"]
    assert "inverted" not in own | other
    assert same["inverted"]


def test_the_first_that_a_victim_is_given_to_searches_for_the_others() -> None:
    variants = {f"rate_{rate}": {"method": "elibadcode", "unlearning": {"rate": rate / 100}} for rate in (5, 10, 20)}
    grid = {"datasets": ["defects"], "models": ["codebert"], "attacks": ["none"]}
    # `rate_5`, the first with this search, has one victim, and the others have two
    grids = [grid | {"eliminations": list(variants)}, grid | {"seeds": [2], "eliminations": ["rate_10", "rate_20"]}]
    experiments = dict.fromkeys(DEFAULT["experiments"]) | {"rates": {"title": "Rates", "grid": grids}}
    study = Dag(validate({**DEFAULT, "eliminations": variants, "experiments": experiments}))

    def searched(elimination: str, seed: str) -> list[str]:
        found = study.eliminate_inputs(wildcards(elimination=elimination, seed=seed)).get("inverted", [])
        return [path.split("/")[-2] for path in found if path.endswith("trigger.json")]

    assert [searched(name, "1") for name in variants] == [[], ["rate_5"], ["rate_5"]]
    assert [searched(name, "2") for name in ("rate_10", "rate_20")] == [[], ["rate_10"]]
