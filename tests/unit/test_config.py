"""A configuration is checked as a whole; every mistake is named with its dotted path and the nearest valid name."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from codebackdoor.config import describing, index
from codebackdoor.config.checks import combinations
from codebackdoor.config.loading import load, merge, parse, read_yaml, validate
from codebackdoor.config.methods import AnyPurification
from codebackdoor.config.scenario import Scenario
from codebackdoor.config.study import Config
from codebackdoor.defenses.elimination.dbs.settings import DbsSettings
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.fine_tuning.settings import FineTuningSettings
from codebackdoor.errors import UserError

ROOT = Path(__file__).parents[2]
DEFAULT = read_yaml(ROOT / "config.yaml")


def changed(path: str, value: object) -> dict[str, Any]:
    """The default configuration with one value set (``None`` stays None)."""
    raw = deepcopy(DEFAULT)
    *parents, last = path.split(".")
    at: Any = raw
    for part in parents:
        at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
    at[int(last) if isinstance(at, list) else last] = value
    return raw


def test_the_default_is_the_headline_experiment() -> None:
    scenarios = validate(DEFAULT).scenarios()
    defects = [scenario for scenario in scenarios if scenario.dataset == "defects"]
    defenses = {(scenario.elimination, scenario.purification) for scenario in defects if scenario.attack == "none"}
    assert defenses == {
        ("none", "none"),
        ("fine_tuning", "none"),
        ("elibadcode", "none"),
        ("elibadcode_extended", "none"),
        ("none", "onion"),
        ("none", "codepurify"),
    }
    assert {scenario.attack for scenario in defects} == {
        "none",
        "codepoisoner_func",
        "codepoisoner_deadcode",
        "codepoisoner_func_to_1",
    }
    repair = {
        (scenario.attack, scenario.objective, scenario.purification)
        for scenario in scenarios
        if scenario.dataset == "repair"
    }
    for attack in ("none", "codepoisoner_deadcode"):
        for objective in ("cross_entropy", "dece"):
            assert {(attack, objective, "none"), (attack, objective, "codepurify")} <= repair


def filtered(dataset: str, victim: str, **settings: object) -> dict[str, object]:
    """The default study with a filter on one data set."""
    grid = {"datasets": [dataset], "models": [victim], "attacks": ["none"], "filterings": ["rows"]}
    return {
        **DEFAULT,
        "filterings": {"rows": {"method": "spectral_signature", **settings}},
        "experiments": {"one": {"title": "One", "grid": [grid]}},
    }


def test_a_filter_that_names_a_model_needs_one_that_can_be_trained_on_the_data_set() -> None:
    encoder = {"unixcoder": {"architecture": "unixcoder"}}
    with pytest.raises(UserError) as caught:
        validate(filtered("repair", "codet5", model="unixcoder") | {"models": {**DEFAULT["models"], **encoder}})
    (line,) = (line for line in str(caught.value).splitlines() if "filterings" in line)
    assert line.endswith(
        "filterings.rows.model: 'unixcoder' works on classification, pair and retrieval data sets, and 'repair' is a "
        "generation data set; write null to look at each victim's own model, or name one that can be trained on it"
    )
    # looking at each victim's own model, at another one that fits, and at a model that the grid has no victim of
    for config in (filtered("repair", "codet5", model=None), filtered("repair", "codet5", model="codet5")):
        assert validate(config).filter_model("rows", "codet5") == "codet5"
    assert validate(filtered("defects", "codet5")).filter_model("rows", "codet5") == "codebert"
    # a dual encoder has no one representation of a row
    with pytest.raises(UserError, match=r"filtering 'rows' works on classification, generation and pair data sets"):
        validate(filtered("search", "codebert"))


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "configs").glob("*.yaml")))
def test_every_overlay_is_valid(name: str) -> None:
    config = load([ROOT / "config.yaml", ROOT / "configs" / name])
    assert config.scenarios()
    # more seeds belong to the study that has the first one already, and nothing of it is made again
    assert (config.out == validate(DEFAULT).out) == (name == "seeds.yaml")


OVERLAYS = [
    ["paper"],
    ["real-subset"],
    ["reproduce"],
    ["elibadcode"],
    ["elibadcode", "elibadcode/paper"],
    ["elibadcode", "elibadcode/onion_filter"],
    ["elibadcode", "elibadcode/afraidoor"],
    ["elibadcode", "elibadcode/ablations"],
    ["codepurify"],
    ["codepurify", "codepurify/paper"],
    ["codepurify/filters"],
    ["dece/bki"],
    ["dece", "dece/one_victim"],
]


@pytest.mark.parametrize("names", OVERLAYS, ids=" ".join)
def test_an_overlay_declares_nothing_that_no_experiment_uses(names: list[str]) -> None:
    paths = [ROOT / "configs" / f"{name}.yaml" for name in names]
    config, raw = load([ROOT / "config.yaml", *paths]), read_yaml(paths[-1])
    scenarios = config.scenarios()
    used = {
        f"{field}s": {getattr(scenario, field) for scenario in scenarios}
        for field in ("dataset", "attack", "filtering", "objective", "elimination", "purification")
    }
    used["models"] = {scenario.model for scenario in scenarios} | {
        config.crafting(scenario.attack) for scenario in scenarios
    }
    declared = {
        section: {name for name, settings in raw.get(section, {}).items() if settings is not None} for section in used
    }
    assert {section: names - used[section] for section, names in declared.items() if names - used[section]} == {}


def test_a_decoder_cannot_be_read_at_its_first_sub_token() -> None:
    with pytest.raises(UserError, match="has read one sub-token alone"):
        validate(
            {**DEFAULT, "models": {**DEFAULT["models"], "star": {"architecture": "starcoder", "pooling": "first"}}}
        )


#: EliBadCode's budget (section 5.1, the released configuration), and nothing of what this project adds to the search.
PRINTED: dict[str, object] = (
    {"samples": 30, "length": 5, "word_length": 2, "iterations": 100, "top_k": 64, "candidates": 64, "beta": 0.15}
    | {"position": "least_sensitive", "vocabulary": "paper", "occurrences": "one", "restarts": 1}
    | {"race": None, "patience": None, "sample_tokens": None}
)
LAST_LAYER: dict[str, object] = {
    "layers": "last",
    "epochs": 1,
    "learning_rate": 5e-3,
    "batch_size": 32,
}
LAST_LAYER |= {"searching": None}
#: Of which the paper says nothing: by default, and as the released code has it.
SILENT: dict[str, object] = {"schedule": "constant", "dropout": False}
RELEASED: dict[str, object] = {"schedule": "released", "dropout": True}
#: What the released code does otherwise of a victim that searches, at the rate of the victim's own training.
SEARCHING = {"epochs": 1, "learning_rate": 5e-5, "layers": "all"}
UNLEARNING = LAST_LAYER | {"rate": 0.2, "classes": "all", "places": "found", "labels": "correct"}
PAPER_SCALE = [["paper"], ["elibadcode", "elibadcode/paper"]]


def overlaid(names: list[str]) -> Config:
    return load([ROOT / "config.yaml", *(ROOT / "configs" / f"{name}.yaml" for name in names)])


def test_the_defaults_are_the_papers_budget() -> None:
    search = EliBadCodeSettings(method="elibadcode").model_dump()
    assert {key: search[key] for key in PRINTED} == PRINTED
    assert search["unlearning"] == DbsSettings(method="dbs").unlearning.model_dump() == UNLEARNING | SILENT
    assert FineTuningSettings(method="fine_tuning").model_dump(exclude={"method"}) == LAST_LAYER | SILENT


@pytest.mark.parametrize("names", PAPER_SCALE, ids=" ".join)
def test_the_papers_budgets_are_those_of_the_papers(names: list[str]) -> None:
    config = overlaid(names)
    eliminations = config.eliminations
    search = eliminations["elibadcode"].model_dump()
    searches = any(dataset.head == "retrieval" for dataset in config.datasets.values())
    released = RELEASED | {"searching": SEARCHING if searches else None}
    printed = PRINTED | {"keep_current": False}
    assert {key: search[key] for key in printed} == printed
    with_rate = {"searching": SEARCHING | {"rate": None} if searches else None}
    assert search["unlearning"] == UNLEARNING | released | with_rate
    # a shipped calibration is of small victims: at this scale there is none, or it is made for it
    assert search["calibration"] is None or search["calibration"].startswith("runs/")
    assert eliminations["fine_tuning"].model_dump(exclude={"method"}) == LAST_LAYER | released


#: Another search than that of the benign victims has no calibration.
UNCALIBRATED: dict[str, object] = {"calibration": None}
#: Of the paper's ablations, what each changes; the others change nothing at this scale.
ABLATIONS: dict[str, dict[str, object]] = {
    "inverted": {"unlearning.epochs": 0, "unlearning.searching": None},
    "extended": {"rounds": 4},
    "paper_vocabulary": UNCALIBRATED,
    "always": {"unlearn_when_clean": True},
    "uncalibrated": UNCALIBRATED,
    "all_pieces": {"vocabulary": "all"} | UNCALIBRATED,
    "any_place": {"position": "random"} | UNCALIBRATED,
    "known_word": {"target_word": "file"} | UNCALIBRATED,
    "least_sensitive": UNCALIBRATED,
    "unanchored": {"beta": 0.0} | UNCALIBRATED,
    "other_layers": {"unlearning.layers": "all", "unlearning.learning_rate": 2e-5},
    "victim_classes": {"unlearning.classes": "victim"} | UNCALIBRATED,
    "ascent": {"unlearning.labels": "ascent"} | UNCALIBRATED,
    "rank_0": {"position": "rank"} | UNCALIBRATED,
    **{f"rank_{rank}": {"position": "rank", "rank": rank} | UNCALIBRATED for rank in (1, 2)},
    "rank_last_2": {"position": "rank", "rank": -2} | UNCALIBRATED,
    "rank_last": {"position": "rank", "rank": -1} | UNCALIBRATED,
    **{f"rate_{rate:02}": {"unlearning.rate": rate / 100} for rate in (5, 10, 50, 80)},
    **{f"samples_{samples}": {"samples": samples} | UNCALIBRATED for samples in (5, 10, 20)},
    "samples_30": UNCALIBRATED,
    **{f"k_{k}": {"top_k": k} | UNCALIBRATED for k in (16, 32, 128)},
    **{f"r_{r}": {"candidates": r} | UNCALIBRATED for r in (16, 32, 128)},
    "fewer_steps": {"iterations": 50} | UNCALIBRATED,
    "more_steps": {"iterations": 150} | UNCALIBRATED,
}


def flat(settings: EliBadCodeSettings) -> dict[str, object]:
    values = settings.model_dump()
    unlearning = values.pop("unlearning")
    return values | {f"unlearning.{key}": value for key, value in unlearning.items()}


def test_an_ablation_of_the_paper_scale_differs_in_what_it_ablates_alone() -> None:
    declared = overlaid(PAPER_SCALE[1]).eliminations
    searches = {
        name: flat(elimination) for name, elimination in declared.items() if isinstance(elimination, EliBadCodeSettings)
    }
    reference = searches.pop("elibadcode")
    differences = {
        name.removeprefix("elibadcode_"): {key: value for key, value in search.items() if value != reference[key]}
        for name, search in searches.items()
    }
    assert {name: changes for name, changes in differences.items() if changes} == ABLATIONS


@pytest.mark.parametrize("names", [["elibadcode"], PAPER_SCALE[1]], ids=" ".join)
def test_the_points_of_a_sweep_differ_in_what_is_swept_and_none_of_them_may_say_clean(names: list[str]) -> None:
    config = overlaid(names)
    for experiment in config.experiments.values():
        if experiment.swept is None or experiment.swept == "unlearning.rate":
            continue
        variants = {name for grid in experiment.grid for name in grid.eliminations} - {"none"}
        points = [flat(config.eliminations[name]) for name in sorted(variants)]
        assert len({point[experiment.swept] for point in points}) == len(points)
        assert all(point["calibration"] is None for point in points)
        left = {experiment.swept, *(["race"] if names == ["elibadcode"] else [])}
        assert all({**points[0], **{key: point[key] for key in left}} == point for point in points)


def test_unlearning_that_goes_by_labels_is_not_of_a_victim_that_searches() -> None:
    raw = merge(DEFAULT, read_yaml(ROOT / "configs/elibadcode.yaml"))
    raw["experiments"]["elibadcode_table4"]["grid"][0]["eliminations"] = [
        "elibadcode_ascent",
        "elibadcode_victim_classes",
    ]
    for name in ("ascent", "victim_classes"):
        with pytest.raises(
            UserError, match=f"'elibadcode_{name}' works on classification and pair data sets, but 'search'"
        ):
            validate(raw)


def test_victims_of_the_paper_scale_read_as_much_as_the_papers() -> None:
    """EliBadCode's released code: 400 sub-tokens of functions and pairs; 256 and 128 in search."""
    config = overlaid(PAPER_SCALE[1])
    assert {"codebert", "codet5", "unixcoder", "starcoder"} == set(config.models)
    for name, dataset in product(config.models, ("defects", "clones", "search")):
        model = config.victim_settings(name, dataset)
        lengths = (model.max_length, model.max_query_length)
        assert lengths == (256, 128) if dataset == "search" else lengths[0] == 400
        assert (model.epochs, model.lr) == ((5, 2e-5) if dataset == "defects" else (2, 5e-5))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("atacks", {}, "unknown key atacks; did you mean attacks?"),
        (
            "purifications.codepurify.tuched_share",
            0.1,
            "unknown key purifications.codepurify.tuched_share; did you mean purifications.codepurify.touched_share?",
        ),
        (
            "eliminations.elibadcode.unlearning.rat",
            0.1,
            "unknown key eliminations.elibadcode.unlearning.rat; did you mean eliminations.elibadcode.unlearning.rate?",
        ),
        (
            "experiments.defects.grid.0.eliminatons",
            [],
            "unknown key experiments.defects.grid.0.eliminatons; did you mean experiments.defects.grid.0.eliminations?",
        ),
        (
            "models.codebert.learning_rate",
            1e-4,
            "unknown key models.codebert.learning_rate; did you mean models.codebert.lr?",
        ),
        ("touched_share", 0.1, "unknown key touched_share; did you mean touched_share of one of the purifications?"),
        (
            "attacks.codepoisoner_func.method",
            "codepoisoner_identifer",
            "codepoisoner_func: unknown method 'codepoisoner_identifer'; did you mean 'codepoisoner_identifier'?",
        ),
        (
            "datasets.defects.task",
            "defect_detecton",
            "unknown task 'defect_detecton'; did you mean 'defect_detection'?",
        ),
        # the released inverter reads ten keys that its configuration lacks (ledger E1)
        ("eliminations.elibadcode.inject_position", 10, "unknown key eliminations.elibadcode.inject_position"),
        ("eliminations.elibadcode.unlearning.victim_label", 1, "unknown key eliminations.elibadcode.unlearning.victim"),
        ("purifications.onion", {}, "purifications.onion: missing key 'method'"),
        (
            "purifications.onion.removed_share",
            "many",
            "purifications.onion.removed_share: input should be a valid number",
        ),
        (
            "purifications.onion.removed_share",
            2,
            "purifications.onion.removed_share: 2 is not a share between 0 and 1; write 0.02 for 2%",
        ),
        (
            "experiments.defects.grid.0.attacks",
            ["codepoisoner_fun"],
            "'codepoisoner_fun' is not declared under attacks; did you mean 'codepoisoner_func'?",
        ),
        (
            "experiments.defects.grid.0.models",
            ["none"],
            "experiments.defects.grid.0.models: 'none' is not declared under models",
        ),
        (
            "models.codet5",
            {"architecture": "unixcoder"},
            "model 'codet5' works on classification, pair and retrieval data sets, but",
        ),
        (
            "experiments.repair.grid.0.eliminations",
            ["elibadcode"],
            "elimination 'elibadcode' works on classification, pair and retrieval data sets, but 'repair' is a "
            "generation data set: remove this combination from the grid, or list it under dashes",
        ),
        ("helpers", {"infiller": "basemodels/encoder"}, "purification 'onion' needs helpers.language_model"),
        (
            "experiments.defects",
            DEFAULT["experiments"]["defects"]
            | {
                "tables": ["ordering"],
                "differences": [{"elimination": "elibadcode", "against": ["onoin"], "reason": "so"}],
            },
            "experiments.defects.differences.0.against: 'onoin' is not declared under any of filterings, objectives, "
            "eliminations, purifications; did you mean 'onion'?",
        ),
        ("helpers.infiler", "basemodels/encoder", "helpers.infiler: no method asks for it; did you mean 'infiller'?"),
        ("filterings.rows", {}, "filterings.rows: missing key 'method'"),
        ("filterings.rows", {"method": "onoin"}, "filterings.rows: unknown method 'onoin'; did you mean 'onion'?"),
        (
            "filterings.rows",
            {"method": "onion", "droped_share": 0.1},
            "unknown key filterings.rows.droped_share; did you mean filterings.rows.dropped_share?",
        ),
        ("filterings.rows", {"method": "onion", "words": "names"}, "filterings.rows.words: input should be 'all' or"),
        (
            "filterings.onion",
            {"method": "onion"},
            "purifications.onion: filterings.onion has the same name, by which tables know a defense; choose another",
        ),
        (
            "filterings.rows",
            {"method": "spectral_signature", "model": "codebrt"},
            "filterings.rows.model: 'codebrt' is not declared under models; did you mean 'codebert'?; write null to "
            "look at each victim's own model",
        ),
        (
            "filterings.rows",
            {"method": "spectral_signature", "share": 1.5},
            "filterings.rows.share: 1.5 is not a share between 0 and 1",
        ),
        ("attacks.none", {"method": "codepoisoner_deadcode"}, "attacks.none: this name means that nothing"),
        ("attacks.Bad", {"method": "codepoisoner_deadcode"}, "attacks.Bad"),
        ("objectives", {"dece": {"method": "dece"}}, "is not declared under objectives"),
        ("experiments", {}, "experiments:"),
    ],
)
def test_a_mistake_is_named(path: str, value: object, message: str) -> None:
    with pytest.raises(UserError) as caught:
        validate(changed(path, value))
    assert message in str(caught.value)


@pytest.mark.parametrize("source", [{}, {"source": "jsonl", "path": "rows"}], ids=["pypi", "jsonl"])
def test_a_target_label_is_one_that_the_task_has(source: dict[str, object]) -> None:
    raw = changed("attacks.codepoisoner_deadcode.target_label", 7)
    raw["datasets"]["defects"] |= source
    with pytest.raises(UserError) as caught:
        validate(raw)
    assert str(caught.value) == "attacks.codepoisoner_deadcode.target_label: 7 is not a label of defects; write 0 or 1"
    # of a task without labels it is not read
    del raw["experiments"]["defects"]
    assert validate(raw).scenarios()


@pytest.mark.parametrize("seed", [1, 103])
def test_the_crafting_models_seed_is_no_victims(seed: int) -> None:
    with pytest.raises(UserError, match=f"crafting_seed: seed {seed} is that of a victim or a shadow"):
        validate(changed("crafting_seed", seed))


def test_an_attack_crafts_by_a_model_that_is_declared_and_fits() -> None:
    with pytest.raises(UserError, match=r"attacks\.mine\.crafting: 'codebart' is not declared under models"):
        validate(changed("attacks.mine", {"method": "afraidoor", "crafting": "codebart"}))
    raw = changed("attacks.mine", {"method": "afraidoor", "crafting": "unixcoder"})
    raw["models"]["unixcoder"] = {"architecture": "unixcoder"}
    raw["experiments"]["repair"]["grid"][0]["attacks"].append("mine")
    with pytest.raises(UserError, match=r"mine\.crafting: 'unixcoder' works on .* name a model that"):
        validate(raw)
    with pytest.raises(UserError, match=r"attacks\.mine: afraidoor chooses names for one pair"):
        validate(changed("attacks.mine", {"method": "afraidoor", "rate_of": "functions"}))


@pytest.mark.parametrize(
    ("dataset", "section", "variant", "message"),
    [
        (
            {"task": "defect_detection"},
            "attacks",
            {"method": "ripple"},
            "attack 'mine' acts on the query of an example, and victims of 'defects' read only its code: remove this "
            "combination from the grid, or list it under dashes; methods that act on it: `codepoisoner_identifier`",
        ),
        (
            {"task": "technical_debt"},
            "attacks",
            {"method": "bnc_fixed"},
            "attack 'mine' acts on the code of an example, and victims of 'defects' read only its query: remove this "
            "combination from the grid, or list it under dashes; methods that act on it: `ripple`, `badpre`, "
            "`nl_grammar`",
        ),
        (
            {"task": "technical_debt"},
            "purifications",
            {"method": "oseql"},
            "purification 'mine' acts on the code of an example, and victims of 'defects' read only its query: remove "
            "this combination from the grid, or list it under dashes; methods that act on it: `onion`",
        ),
        (
            {"task": "technical_debt"},
            "eliminations",
            {"method": "elibadcode"},
            "or list it under dashes; methods that act on it: `fine_tuning`",
        ),
    ],
)
def test_a_method_acts_on_a_text_that_the_task_reads(
    dataset: dict[str, str], section: str, variant: dict[str, str], message: str
) -> None:
    raw = changed(f"{section}.mine", variant)
    raw["datasets"]["defects"] = dataset
    attack = "mine" if section == "attacks" else "none"
    grid = {"datasets": ["defects"], "models": ["codebert"], "attacks": [attack], section: ["mine"]}
    raw["experiments"] = {"one": {"title": "t", "grid": [grid]}}
    with pytest.raises(UserError) as caught:
        validate(raw)
    assert message in str(caught.value)
    raw["experiments"]["one"]["grid"] = [{**grid, section: ["none", "mine"]}]
    raw["experiments"]["one"]["dashes"] = [{section[:-1]: "mine"}]
    assert validate(raw).scenarios()


def test_products_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(UserError, match=r"position searches with .* 'fine_tuning' is not EliBadCode"):
        validate(changed("experiments.defects.figures", ["position"]))
    searching = merge(DEFAULT, read_yaml(ROOT / "configs/elibadcode.yaml"))
    searching["experiments"]["elibadcode_known_word"]["pages"] = ["purified_inputs"]
    with pytest.raises(UserError, match=r"known_word\.pages: purified_inputs .* 'search' ranks"):
        validate(searching)
    raw = changed("experiments.defects.tables", ["significance"])
    raw["experiments"]["defects"]["tested"] = "elibadcod"
    with pytest.raises(UserError, match=r"experiments.defects.tested: 'elibadcod' is not declared.*elibadcode"):
        validate(raw)
    raw = changed("experiments.defects.paper.0.defenses", {"oinon": "onion"})
    with pytest.raises(UserError, match=r"experiments.defects.paper.0.defenses: 'oinon' is not declared.*onion"):
        validate(raw)


def test_several_mistakes_are_named_at_once() -> None:
    raw = changed("atacks", {})
    raw["purifications"]["onion"]["treshold"] = 1
    with pytest.raises(UserError) as caught:
        validate(raw)
    assert len(str(caught.value).splitlines()) == 2


def test_a_null_takes_an_entry_out_and_an_overlay_is_merged_deeply() -> None:
    over = {"experiments": {"repair": None}, "datasets": {"defects": {"train": 100}}}
    config = validate(merge(DEFAULT, over))
    assert set(config.experiments) == {"defects"}
    assert config.datasets["defects"].train == 100
    assert config.datasets["defects"].task == "defect_detection"


def test_the_seeds_of_the_study_are_those_of_grids_without_their_own() -> None:
    raw = changed("seeds", [1, 2])
    for grid in raw["experiments"]["repair"]["grid"]:
        grid["seeds"] = [7]
    seeds = {(scenario.dataset, scenario.seed) for scenario in validate(raw).scenarios()}
    assert seeds == {("defects", "1"), ("defects", "2"), ("repair", "7")}


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load([tmp_path / "config.yaml"])
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(UserError, match="not YAML"):
        load([tmp_path / "config.yaml"])
    (tmp_path / "config.yaml").write_text("- a")
    with pytest.raises(UserError, match="expected sections"):
        load([tmp_path / "config.yaml"])
    (tmp_path / "config.yaml").write_text("models:\n  a: &a {epochs: 1}\n  b: {<<: *a, epochs: 2}\n  a: {epochs: 3}\n")
    with pytest.raises(UserError, match="line 4: a already occurs in line 2; remove one of them"):
        load([tmp_path / "config.yaml"])
    (tmp_path / "config.yaml").write_text("a: &a {b: 1}\nc:\n  <<: *a\n  <<: *a\n")
    with pytest.raises(UserError, match=r"line 4: << already occurs in line 3; write both as <<: \[\*one, \*other\]"):
        load([tmp_path / "config.yaml"])


def test_an_overlay_that_is_read_alone_names_the_file_that_it_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlay, hint = (
        ROOT / "configs/cross.yaml",
        "if this overrides other files, as its first lines may say, name them before it: config.yaml",
    )
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=f"missing key 'method'\n{hint} {re.escape(str(overlay))}$"):
        load([overlay])
    # with the file, what is missing is missing in the overlay
    mistaken = tmp_path / "mine.yaml"
    mistaken.write_text("models: {mine: {epochs: 1}}")
    with pytest.raises(UserError, match=r"^models\.mine: missing key 'architecture'$"):
        load([Path("config.yaml"), mistaken])
    # without such a file there is nothing to name
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"missing key 'method'$"):
        load([overlay])


def test_a_study_with_one_seed_that_is_no_list_is_one_line() -> None:
    with pytest.raises(UserError) as caught:
        validate(DEFAULT | {"seeds": 1})
    assert str(caught.value) == "seeds: expected a list, such as [1]"


@pytest.mark.parametrize(
    ("path", "value", "lines"),
    [
        (
            "experiments.defects.grid.0.rates",
            [5],
            ["experiments.defects.grid.0.rates.0: 5 is not a share between 0 and 1; write 0.05 for 5%"],
        ),
        # the only grid of an experiment is left out with its rate
        (
            "experiments.defects.grid",
            [{**DEFAULT["experiments"]["defects"]["grid"][0], "rates": [0.5, 20]}],
            ["experiments.defects.grid.0.rates.1: 20 is not a share between 0 and 1; write 0.2 for 20%"],
        ),
        # no share
        (
            "objectives.dece.alpha",
            5,
            ["objectives.dece.alpha: input should be less than or equal to 1, not 5"],
        ),
        (
            "seeds",
            [-1, "x"],
            [
                "seeds.0: input should be greater than or equal to 0, not -1",
                "seeds.1: input should be a valid integer, unable to parse string as an integer, not 'x'",
            ],
        ),
        ("seeds", [], ["seeds: too few items; write at least 1"]),
        ("shadows", [101, 102], ["shadows: too few items; write at least 5"]),
    ],
    ids=["rate", "grid", "alpha", "seeds", "no_seed", "shadows"],
)
def test_a_mistake_is_named_once_and_what_follows_from_it_is_not(path: str, value: object, lines: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        validate(changed(path, value))
    assert str(caught.value).splitlines() == lines


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("purifications.onion.calibration_inputs", True),
        ("purifications.onion.threshold", False),
        ("eliminations.fine_tuning.learning_rate", True),
        ("datasets.defects.mutants", [True, 1, 1]),
        ("experiments.defects.grid.0.rates", [True]),
        ("experiments.defects.grid.0.seeds", [True]),
        ("seeds", [True]),
        ("crafting_seed", True),
    ],
)
def test_true_is_no_number(path: str, value: object) -> None:
    with pytest.raises(UserError) as caught:
        validate(changed(path, value))
    where = f"{path}.0" if isinstance(value, list) else path
    assert str(caught.value).startswith(f"{where}: input should be a valid ")
    assert len(str(caught.value).splitlines()) == 1


def test_truth_values_and_numbers_as_yaml_reads_them_are_taken() -> None:
    # 1e-3 without a point is text to PyYAML
    config = validate(changed("eliminations.fine_tuning.learning_rate", "1e-3"))
    assert config.eliminations["fine_tuning"].learning_rate == 0.001
    assert validate(changed("eliminations.elibadcode.unlearn_when_clean", True)).scenarios()
    # as Snakemake's own --config gives it
    assert {scenario.seed for scenario in validate(changed("seeds", ["21"])).scenarios()} == {"21"}
    with pytest.raises(UserError, match="--settings: calibration_inputs: input should be a valid integer"):
        parse(AnyPurification, '{"method": "onion", "calibration_inputs": true}', "--settings")


def test_settings_travel_as_json() -> None:
    assert parse(AnyPurification, '{"method": "onion"}', "--settings").removed_share == 0.01
    with pytest.raises(UserError, match=r"--settings: unknown key treshold; did you mean threshold\?"):
        parse(AnyPurification, '{"method": "onion", "treshold": 1}', "--settings")


def test_an_unfit_scenario_says_why() -> None:
    models = {**DEFAULT["models"], "unixcoder": {"architecture": "unixcoder"}}
    config = validate({**DEFAULT, "models": models})
    assert not list(combinations.unfit(config, Scenario("repair", "codebert")))
    assert not list(combinations.unfit(config, Scenario("defects", "unixcoder")))
    assert "works on classification" in next(combinations.unfit(config, Scenario("repair", "unixcoder")))


def test_oseql_needs_a_label() -> None:
    raw = changed("purifications.oseql", {"method": "oseql"})
    raw["experiments"]["repair"]["grid"][0]["purifications"].append("oseql")
    with pytest.raises(UserError, match="purification 'oseql' works on classification and pair data sets, but"):
        validate(raw)


@pytest.mark.parametrize("name", ["config.schema.json", "defaults.yaml"])
def test_the_written_schema_is_up_to_date(name: str) -> None:
    renderers: dict[str, Callable[[], str]] = {
        "config.schema.json": describing.schema,
        "defaults.yaml": describing.defaults,
    }
    assert (ROOT / "schemas" / name).read_text() == renderers[name](), "run `make schema`"


def test_describe_begins_with_an_index_and_shows_variants_of_a_configuration() -> None:
    text = index.index()
    assert set(re.findall(r"^(\w+) ", text, re.MULTILINE)) - {"codebackdoor"} == set(Config.model_fields)
    assert len(text.splitlines()) < 50
    assert max(map(len, text.splitlines())) <= describing.LINE_WIDTH
    assert "codepurify, onion, paraphrasing, attdef, oseql, similarity" in text
    config = load([ROOT / "config.yaml"])
    defects = index.variant(config, "defects")
    assert defects is not None
    assert yaml.safe_load(defects) == {"datasets": {"defects": config.datasets["defects"].model_dump(mode="json")}}
    assert defects.endswith("# codebackdoor describe defect_detection explains these settings")
    assert index.variant(config, "datasets.defects") == defects
    assert index.variant(config, "models.defects") is None


def test_describing_a_method() -> None:
    text = describing.describe("purifications.onion")
    assert "method: onion" in text
    assert "removed_share: 0.01" in text
    # ONION drops words of inputs, or training rows
    both = describing.describe("onion")
    assert both.startswith("# filterings.onion\n")
    assert text in both
    assert "dropped_share: 0.05" in both
    assert describing.describe("oseql") == describing.describe("purifications.oseql")
    with pytest.raises(UserError, match="did you mean 'codepurify'"):
        describing.describe("purifications.codepurfy")
    with pytest.raises(UserError, match="did you mean 'purifications'"):
        describing.describe("purification")
