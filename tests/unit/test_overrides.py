"""Settings of a model that differ by head (``on``): how they are read, checked, and passed on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codebackdoor.config.loading import load, merge, parse, read_yaml, validate
from codebackdoor.config.models import AnyModel, CodeBert
from codebackdoor.config.study import Config
from codebackdoor.costs import bill
from codebackdoor.dag import Dag
from codebackdoor.errors import UserError
from codebackdoor.originals import catalog

ROOT = Path(__file__).parents[2]
DEFAULT = read_yaml(ROOT / "config.yaml")
STUDY = merge(DEFAULT, read_yaml(ROOT / "configs/elibadcode.yaml"))
HUB = {"base": "microsoft/codebert-base", "revision": "3b0952feddeffad0063f274080e3c23d75e7eb39"}
#: All settings of a model, as the jobs of finished studies have them.
FIELDS = {
    *("architecture", "base", "batch_tokens", "checkpoint", "clip", "dropout", "epochs", "history_rows", "lr"),
    *("max_length", "max_query_length", "max_target_length", "pair_features", "pooling", "precision", "revision"),
    *("scale", "similarity", "warmup", "weight_decay"),
}


def study(on: Any, raw: dict[str, Any] = STUDY) -> Config:
    """A study whose CodeBERT has these overrides."""
    model = {**raw["models"]["codebert"], "on": on}
    return validate({**raw, "models": {**raw["models"], "codebert": {k: v for k, v in model.items() if k is not True}}})


def test_a_victim_has_the_settings_of_its_head() -> None:
    config = study({"retrieval": {"epochs": 9, "lr": "2e-5"}, "pair": {"pooling": None}})
    searching, pairs, defects = (config.victim_settings("codebert", name) for name in ("search", "clones", "defects"))
    assert (searching.epochs, searching.lr, searching.pooling) == (9, 2e-5, "max")
    assert (pairs.epochs, pairs.pooling) == (3, None)
    assert defects == config.models["codebert"].model_copy(update={"on": {}})


@pytest.mark.parametrize("on", [{}, {"pair": {"epochs": 9}}, {"generation": {"epochs": 9}}])
def test_overrides_change_no_settings_of_other_heads(on: dict[str, Any]) -> None:
    """A study without overrides, and data sets of other heads, keep the texts by which their jobs are finished."""
    text = Dag(study(on)).parameters.victim_settings("codebert", "search")
    assert set(json.loads(text)) == FIELDS
    assert text == json.dumps(CodeBert.model_validate_json(text).model_dump(mode="json"), sort_keys=True)
    assert text == Dag(study({})).parameters.victim_settings("codebert", "search")


def test_a_model_without_overrides_is_written_without_the_key() -> None:
    config = validate(DEFAULT)
    assert set(config.model_dump(mode="json")["models"]["codet5"]) == FIELDS
    settings = json.loads(Dag(config).parameters.experiment_settings("repair"))
    assert set(settings["models"]["codet5"]) == FIELDS


def test_a_table_depends_on_the_overrides_of_its_own_tasks() -> None:
    """An experiment of defects and clones alone, and one of all three tasks."""
    before, after = (Dag(study({"retrieval": {"epochs": epochs}})).parameters for epochs in (8, 9))
    assert before.experiment_settings("elibadcode_table6") == after.experiment_settings("elibadcode_table6")
    assert before.experiment_settings("elibadcode_table4") != after.experiment_settings("elibadcode_table4")


def test_yaml_reads_the_bare_key_as_true(tmp_path: Path) -> None:
    (tmp_path / "bare.yaml").write_text("models: {codebert: {on: {pair: {epochs: 9}}}}\n")
    assert True in read_yaml(tmp_path / "bare.yaml")["models"]["codebert"]
    config = load([ROOT / "config.yaml", tmp_path / "bare.yaml"])
    assert config.models["codebert"].on["pair"] == {"epochs": 9}
    assert parse(AnyModel, config.models["codebert"].model_dump_json(), "--model") == config.models["codebert"]
    (tmp_path / "quoted.yaml").write_text('models: {codebert: {"on": {pair: {epochs: 9}}}}\n')
    with pytest.raises(UserError, match=r"models\.codebert: `on` is there twice, with and without quotes"):
        load([ROOT / "config.yaml", tmp_path / "bare.yaml", tmp_path / "quoted.yaml"])


@pytest.mark.parametrize(
    ("on", "message"),
    [
        (
            {"retrieval": {"lrr": 1}},
            "unknown key models.codebert.on.retrieval.lrr; did you mean models.codebert.on.retrieval.lr?",
        ),
        ({"pair": {"lr": -1}}, "models.codebert.on.pair.lr: input should be greater than 0, not -1"),
        (
            {"pair": {"epochs": True}},
            "models.codebert.on.pair.epochs: input should be a valid integer, unable to parse",
        ),
        ({"pair": {"base": "a/b"}}, "models.codebert.on.pair: base 'a/b' is a hub id: pin it with `revision`"),
        ({"pair": {"architecture": "codet5"}}, "models.codebert.on: pair cannot override `architecture`; declare"),
        ({"pair": {"on": {}}}, "models.codebert.on: pair cannot override `on`; declare another model instead"),
        ({"search": {"lr": 1}}, "input should be 'classification', 'pair', 'retrieval' or 'generation', not 'search'"),
        ({"pair": 3}, "models.codebert.on.pair: expected keys with values, not 3"),
    ],
)
def test_a_wrong_override_is_one_mistake(on: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        study(on)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_base_models_are_those_of_the_head() -> None:
    config = study({"retrieval": HUB | {"precision": "bfloat16", "max_length": 600}})
    dag, hub = Dag(config), f"{HUB['base']}@{HUB['revision']}"
    for dataset, base, gpu in (("defects", "basemodels/encoder", 0), ("search", hub, 1)):
        wildcards = SimpleNamespace(model="codebert", dataset=dataset)
        assert dag.files.base("codebert", dataset) == base
        assert dag.train.craft.options(wildcards)[-2:] == ["--base", base]
        assert dag.resources.victim["gpu"](wildcards) == gpu
        crafted = SimpleNamespace(attack="afraidoor", dataset=dataset)
        assert dag.resources.attack(1, 1)["gpu"](crafted) == gpu
    assert hub in {original.name for original in catalog.needed(config)}
    # the bill has the jobs of hub checkpoints alone
    names = {line.name for line in bill.lines(config)}
    assert {"train codebert, search", "craft codebert, search"} <= names
    assert not any(name.endswith(("defects", "clones")) for name in names)


def test_a_base_that_is_too_short_is_named_by_the_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=r"models\.codebert\.on\.retrieval\.max_length: .*this base reads 128"):
        Dag(study({"retrieval": {"max_length": 600}})).check_files()
