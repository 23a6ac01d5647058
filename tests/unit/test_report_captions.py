"""Captions of a made-up run: they name what a product shows, and of the settings behind it those that were read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_up_grid
import pytest
from made_up_run import make, settings
from made_up_victims import write_victims

from codebackdoor import files
from codebackdoor.attacks.codepoisoner_deadcode.settings import CodePoisonerDeadCodeSettings
from codebackdoor.config.base import Settings, models_in
from codebackdoor.config.models import CodeBert, CodeT5
from codebackdoor.config.scenario import Scenario
from codebackdoor.config.sections import SECTIONS
from codebackdoor.config.study import Config
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.fine_tuning.settings import FineTuningSettings
from codebackdoor.defenses.elimination.inversion.settings import UnlearningBudget, UnlearningSettings
from codebackdoor.defenses.elimination.settings import Budget
from codebackdoor.defenses.purification.codepurify.settings import CodePurifySettings
from codebackdoor.report import captions
from codebackdoor.report.collect import Results
from codebackdoor.report.study import Study
from codebackdoor.report.tables.results import build
from codebackdoor.tasks.code_repair.settings import CodeRepair
from codebackdoor.tasks.code_search.settings import CodeSearch
from codebackdoor.tasks.defect_detection.settings import DefectDetection


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    config = settings(tmp_path_factory.mktemp("run"))
    make(config)
    return config


def printed(run: dict[str, Any], name: str, product: str) -> dict[str, str]:
    return dict(captions.parameters(Study(run, name), product))


def changed(run: dict[str, Any], section: str, name: str, settings: Settings) -> dict[str, Any]:
    """The settings with another variant, its defaults included as the rules pass them on."""
    return run | {section: {**run[section], name: settings.model_dump(mode="json")}}


def keys(values: str) -> set[str]:
    """Names of the settings in one line of a caption."""
    return {part.split(" ")[0] for part in values.partition(": ")[2].split(", ")}


@pytest.mark.parametrize(
    ("name", "product", "scenarios", "variants"),
    [
        ("defects", "table", 17, "by_name deadcode by_name_to_1 cross_entropy fine_tuning elibadcode onion codepurify"),
        # the defended benign victim is in the table only
        (
            "defects",
            "defenses",
            13,
            "by_name deadcode by_name_to_1 cross_entropy fine_tuning elibadcode onion codepurify",
        ),
        # fine-tuning searches no trigger
        ("defects", "inversion", 4, "by_name deadcode by_name_to_1 cross_entropy elibadcode"),
        # ONION keeps no profile, and one attack was not purified
        ("defects", "suspicion", 2, "by_name deadcode cross_entropy codepurify"),
        ("repair", "epochs", 2, "deadcode cross_entropy dece"),
    ],
)
def test_a_caption_names_what_its_product_shows(
    run: dict[str, Any], name: str, product: str, scenarios: int, variants: str
) -> None:
    caption = printed(run, name, product)
    beside = {"defects": " (the paper's: 2%)", "repair": " (the paper's: 1%)"}[name]
    assert caption.pop("scale").startswith(f"{scenarios} scenarios; seed 1; poison rate 5%{beside}; ")
    model = {"defects": "codebert", "repair": "codet5"}[name]
    assert set(caption) == {name, model, *variants.split()}


def test_the_figure_of_suspicions_shows_one_seed(tmp_path: Path) -> None:
    config = settings(tmp_path, seeds=(2, 3))
    make(config)
    assert printed(config, "defects", "suspicion")["scale"].startswith("2 scenarios; seed 2; ")
    assert printed(config, "defects", "inversion")["scale"].startswith("8 scenarios; seeds 2, 3; ")


def test_settings_are_printed_with_their_dotted_names(run: dict[str, Any]) -> None:
    assert printed(run, "defects", "inversion")["elibadcode"] == (
        "EliBadCode: position scan, iterations 40, unlearning.rate 0.2"
    )


def test_a_text_is_printed_in_the_languages_of_the_data_sets(run: dict[str, Any]) -> None:
    attack = {"method": "of_ones_own", "text": {"python": "def f():\n  pass", "java": "void f() {}", "c": "f(void)"}}
    config = run | {"attacks": {**run["attacks"], "deadcode": attack}}
    assert printed(config, "repair", "table")["deadcode"] == "of ones own: text def f(): pass"
    grid = run["experiments"]["repair"]["grid"][0]
    both = {"title": "t", "grid": [grid, {**grid, "datasets": ["defects"], "models": ["codebert"]}]}
    config |= {"experiments": {"repair": both}, "datasets": {**run["datasets"], "defects": {"language": "java"}}}
    caption = printed(config, "repair", "table")["deadcode"]
    assert caption == "of ones own: text.python def f(): pass, text.java void f() {}"


def test_an_attack_prints_the_target_of_its_task_and_the_trigger_of_its_variant(run: dict[str, Any]) -> None:
    config = changed(run, "attacks", "deadcode", CodePoisonerDeadCodeSettings(method="codepoisoner_deadcode"))
    always = {"rate_of", "failed", "test_share", "variant"}
    assert keys(printed(config, "defects", "table")["deadcode"]) == {*always, "target_label", "assertion"}
    repair = printed(config, "repair", "epochs")["deadcode"]
    assert keys(repair) == {*always, "target_text", "target_place", "assertion"}
    assert "target_text def func(): while True: VAR = 0" in repair
    blocked = CodePoisonerDeadCodeSettings(method="codepoisoner_deadcode", variant="block")
    caption = printed(changed(run, "attacks", "deadcode", blocked), "defects", "inversion")["deadcode"]
    assert keys(caption) == {*always, "target_label", "block"}


def test_an_attack_on_two_tasks_prints_both_targets(run: dict[str, Any]) -> None:
    grid = run["experiments"]["repair"]["grid"][0]
    both = {"title": "t", "grid": [grid, {**grid, "datasets": ["defects"], "models": ["codebert"]}]}
    config = changed(run, "attacks", "deadcode", CodePoisonerDeadCodeSettings(method="codepoisoner_deadcode"))
    config = changed(config, "models", "codebert", CodeBert(architecture="codebert"))
    caption = printed(config | {"experiments": {"both": both}}, "both", "table")
    assert {"target_label", "target_text", "target_place"} <= keys(caption["deadcode"])
    # each variant is judged by its own data sets
    assert "max_target_length" not in keys(caption["codebert"])


def test_what_only_generation_reads_is_left_out_for_a_classifier(run: dict[str, Any]) -> None:
    classifier = changed(run, "models", "codebert", CodeBert(architecture="codebert"))
    generator = changed(run, "models", "codet5", CodeT5(architecture="codet5"))
    generation_only = {"max_target_length", "history_rows"}
    assert not generation_only & keys(printed(classifier, "defects", "table")["codebert"])
    assert generation_only <= keys(printed(generator, "repair", "table")["codet5"])
    assert "max_length" in keys(printed(classifier, "defects", "table")["codebert"])


def test_a_model_with_overrides_prints_what_its_data_sets_share_and_what_differs(tmp_path: Path) -> None:
    run = made_up_grid.settings(tmp_path)
    made_up_grid.make(run)
    model = CodeBert(architecture="codebert", epochs=3, on={"retrieval": {"epochs": 9}, "pair": {"pooling": "max"}})
    caption = printed(changed(run, "models", "codebert", model), "all", "defenses")
    assert caption["codebert"].startswith("CodeBERT: base shipped, ")
    assert {"lr", "batch_tokens"} <= keys(caption["codebert"])
    assert not keys(caption["codebert"]) & {"epochs", "pooling", "on", "similarity", "pair_features"}
    assert caption["codebert on defects"] == "epochs 3"
    assert caption["codebert on clones"] == "epochs 3, pooling max, pair_features interaction"
    assert caption["codebert on search"] == "max_query_length 64, epochs 9, similarity cosine, scale 20.0"
    # the others, and a victim of one task, have one line
    assert not any(name.startswith("codet5 on") for name in caption)
    line = printed(changed(run, "models", "codebert", model), "ablation", "table")["codebert"]
    assert {"epochs", "lr"} <= keys(line)
    assert not any(" on " in name for name in printed(changed(run, "models", "codebert", model), "ablation", "table"))


def test_a_data_set_prints_what_its_source_reads(run: dict[str, Any]) -> None:
    mined = DefectDetection(task="defect_detection")
    assert {"mix.operator", "mutants"} <= keys(
        printed(changed(run, "datasets", "defects", mined), "defects", "table")["defects"]
    )
    caption = printed(changed(run, "datasets", "defects", mined), "defects", "table")["defects"]
    assert "resplit" not in keys(caption)
    # what was there, in place of what was asked for
    assert "rows.train 270, rows.valid 60, rows.test 300, rows.clean 30" in caption
    assert not {"train", "valid", "test"} & keys(caption)
    assert "clean" in keys(caption)
    mirrored = CodeRepair(task="code_repair", source="mirror", language="java")
    caption = keys(printed(changed(run, "datasets", "repair", mirrored), "repair", "table")["repair"])
    assert "resplit" in caption
    assert not {"mix.operator", "rows_per_function", "mutants"} & caption


def test_what_an_attack_reads_of_pairs_and_queries_is_left_out_elsewhere(run: dict[str, Any]) -> None:
    attack = CodePoisonerDeadCodeSettings(method="codepoisoner_deadcode")
    supplied = DefectDetection(task="defect_detection", source="jsonl", path=Path("own"))
    config = changed(changed(run, "attacks", "deadcode", attack), "datasets", "defects", supplied)
    assert not {"pair", "target_word"} & keys(printed(config, "defects", "table")["deadcode"])


def test_a_fixed_threshold_and_a_missing_calibration_leave_settings_unread(run: dict[str, Any]) -> None:
    of_calibration = {"touched_share", "calibration_inputs"}
    calibrated = changed(run, "purifications", "codepurify", CodePurifySettings(method="codepurify"))
    assert of_calibration <= keys(printed(calibrated, "defects", "suspicion")["codepurify"])
    fixed = changed(run, "purifications", "codepurify", CodePurifySettings(method="codepurify", threshold=0.1))
    caption = keys(printed(fixed, "defects", "suspicion")["codepurify"])
    assert "threshold" in caption
    assert not of_calibration & caption
    for calibration, is_read in (("defects", True), (None, False)):
        elimination = EliBadCodeSettings(method="elibadcode", calibration=calibration)
        caption = keys(
            printed(changed(run, "eliminations", "elibadcode", elimination), "defects", "inversion")["elibadcode"]
        )
        assert ("ratio" in caption, "unlearn_when_clean" in caption) == (is_read, is_read)


def test_what_is_unread_inside_of_a_setting_is_left_out_as_well(run: dict[str, Any]) -> None:
    slowly = Budget(epochs=4, learning_rate=5e-4)
    of_search = {"searching.epochs", "searching.learning_rate"}
    control = FineTuningSettings(method="fine_tuning", searching=slowly)
    elibadcode = EliBadCodeSettings(
        method="elibadcode", unlearning=UnlearningSettings(searching=UnlearningBudget(**slowly.model_dump()))
    )
    for name, variant, prefix in (("fine_tuning", control, ""), ("elibadcode", elibadcode, "unlearning.")):
        read = {f"{prefix}{key}" for key in ("layers", "epochs")}
        unread = {f"{prefix}{key}" for key in of_search}
        settings = changed(run, "eliminations", name, variant)
        caption = keys(printed(settings, "defects", "table")[name])
        assert read <= caption
        assert not unread & caption
        dataset = CodeSearch(task="code_search", source="jsonl", path=Path("own"))
        settings = changed(settings, "datasets", "search", dataset)
        study = Study(settings, "defects")
        searched = dict(captions._used_settings(study, "eliminations", settings["eliminations"][name], ["search"]))
        assert unread | read <= set(searched)


@pytest.mark.parametrize("section", SECTIONS.values())
def test_what_a_field_depends_on_is_a_field_or_a_fact_of_the_data_set(section: str) -> None:
    models = [model for model in models_in(Config.model_fields[section].annotation) if issubclass(model, Settings)]
    for model in models:
        fields = set(model.model_fields)
        assert set(model.read_where) <= fields
        assert {condition for condition, _ in model.read_where.values()} <= {*fields, "head", "source"}


def test_the_curve_of_a_search_is_explained(run: dict[str, Any]) -> None:
    text = captions.caption(Study(run, "defects"), "inversion")
    assert "current trigger in the best of all starts" in text
    assert "may rise where the search moves on from its best trigger" in text
    assert "The verdict uses the lowest loss of the search" in text
    assert "the loss after anchoring" in text


@pytest.mark.parametrize(
    ("name", "product", "statement"),
    [
        (
            "ranks",
            "sensitivity",
            "(Figure 5 and section 4.3): an effective trigger after 25 steps at the least sensitive",
        ),
        ("rates", "sweep", "(Figure 7 and section 4.5): a small share suffices, on CodeBERT 20% (about 218 samples)"),
        ("layers", "layers", "(Figure 8 and section 4.5): with the last layer alone the backdoor goes"),
        ("all", "tokens", "(Figure 6 and section 4.4): pieces of the trigger change the loss by far more than noise"),
        ("ablation", "position", "(Figure 3 and section 4.3): the trigger turns the shown sample's prediction"),
    ],
)
def test_what_the_paper_states_stands_in_the_caption(tmp_path: Path, name: str, product: str, statement: str) -> None:
    config = made_up_grid.settings(tmp_path)
    write_victims(config)
    assert f" The paper on EliBadCode {statement}" in captions.caption(Study(config, name), product)
    assert "The paper" not in captions.caption(Study(config, name), "defenses")


@pytest.mark.parametrize(
    ("swept", "quote"), [("samples", "fewer than 20"), ("iterations", "all 27"), ("top_k", "64"), ("candidates", "64")]
)
def test_a_sweep_quotes_the_paper_on_its_own_setting_and_method(tmp_path: Path, swept: str, quote: str) -> None:
    config = made_up_grid.settings(tmp_path)
    config["experiments"]["rates"]["swept"] = swept
    write_victims(config)
    assert quote in captions.caption(Study(config, "rates"), "sweep").partition("The paper on EliBadCode")[2]
    for variant in config["eliminations"].values():
        variant["method"] = "dbs"
    assert "The paper" not in captions.caption(Study(config, "rates"), "sweep")


def test_the_table_of_filters_quotes_the_paper_in_its_notes(run: dict[str, Any]) -> None:
    notes = build(Study(run, "defects"), Results({}, {})).notes
    assert not [note for note in notes if "section 6.2" in note]
    config = run | {"purifications": {**run["purifications"], "onion": {"method": "similarity"}}}
    assert [note for note in build(Study(config, "defects"), Results({}, {})).notes if "section 6.2" in note]
    assert "section 6.2" not in captions.caption(Study(config, "defects"), "table")


STOPPED = Scenario("repair", "codet5", "deadcode", "0.05", objective="stopped")


@pytest.mark.parametrize(
    ("losses", "reference", "comparison"),
    [
        ([0.2], 0.295, "No epoch has that loss; even the first is below it."),
        ([0.5, 0.31, 0.25], 0.295, "The epoch before was still at 0.310."),
        ([0.5, 0.4], 0.295, "It never came as low."),
        ([0.3], 0.3, "The two are equal."),
    ],
)
def test_a_control_says_where_it_stopped(
    tmp_path: Path, losses: list[float], reference: float, comparison: str
) -> None:
    config = settings(tmp_path)
    config["objectives"]["stopped"] = {"method": "cross_entropy", "stop_like": "dece"}
    config["experiments"]["repair"]["grid"].append(
        {"datasets": ["repair"], "models": ["codet5"], "attacks": ["deadcode"], "objectives": ["stopped"]}
    )
    make(config)
    for scenario, values in (
        (STOPPED, losses),
        (Scenario(**{**STOPPED.wildcards, "objective": "dece"}), [0.4, reference]),
    ):
        epochs = [{"epoch": number, "loss": loss} for number, loss in enumerate(values, 1)]
        files.write_json(scenario.victim(tmp_path) / "history.json", {"epochs": epochs})
    study = Study(config, "repair")
    sentence = (
        "Cross entropy, stopped by loss on repair · CodeT5 · Dead code at 5%: stopped after epoch "
        f"{len(losses)} at a clean validation loss of {losses[-1]:.3f}; DeCE ended at {reference:.3f}. {comparison}"
    )
    assert captions.caption(study, "epochs").endswith(f" {sentence}")
    assert list(captions.stopped(study, "table")) == [sentence]
    assert "stopped after" not in captions.caption(study, "defenses")


@pytest.mark.parametrize(
    ("facts", "description"),
    [
        (
            {"equal": "loss", "epoch": 2, "value": 0.31, "reference": 0.295, "past": False},
            "the undefended victim after epoch 2, at a clean validation loss of 0.310; DeCE has 0.295.",
        ),
        (
            {"equal": "loss", "epoch": 1, "value": 0.2, "reference": 0.295, "past": True},
            "the undefended victim after epoch 1, at a clean validation loss of 0.200; DeCE has 0.295. No epoch is so "
            "little trained; even the first is past it.",
        ),
        (
            {"equal": "exact_match", "epoch": 3, "value": 0.25, "reference": 0.27, "past": False},
            "the undefended victim after epoch 3, at a clean validation exact match of 0.250; DeCE has 0.270.",
        ),
    ],
)
def test_a_checkpoint_says_which_epoch_it_is(tmp_path: Path, facts: dict[str, Any], description: str) -> None:
    config = settings(tmp_path)
    config["objectives"]["cross_entropy"]["keep_epochs"] = True
    config["objectives"]["stopped"] = {"method": "cross_entropy", "checkpoint": {"like": "dece"}}
    config["experiments"]["repair"]["grid"].append(
        {"datasets": ["repair"], "models": ["codet5"], "attacks": ["deadcode"], "objectives": ["stopped"]}
    )
    make(config)
    files.write_json(STOPPED.victim(tmp_path) / "history.json", {"epochs": [], "stopped": {"like": "dece", **facts}})
    sentence = f"Cross entropy, stopped by loss on repair · CodeT5 · Dead code at 5%: {description}"
    assert list(captions.stopped(Study(config, "repair"), "table")) == [sentence]
