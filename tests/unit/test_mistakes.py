"""Settings that no job would read, controls that control nothing, and what the messages and `describe` suggest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from codebackdoor.config import describing
from codebackdoor.config.loading import merge, read_yaml, validate
from codebackdoor.config.pretraining import HELPER_FAMILIES
from codebackdoor.config.suggestions import MOST, suggestions
from codebackdoor.errors import UserError

ROOT = Path(__file__).parents[2]
DEFAULT = read_yaml(ROOT / "config.yaml")


def refusal(changes: dict[str, Any]) -> str:
    with pytest.raises(UserError) as error:
        validate(merge(DEFAULT, changes))
    return str(error.value)


@pytest.mark.parametrize(
    ("section", "settings", "message"),
    [
        (
            "purifications",
            {"method": "onion", "threshold": 0.0, "lost_points": 2.0},
            "lost_points: not read with `threshold: 0.0`; leave it out, or write null as `threshold`",
        ),
        (
            "models",
            {"architecture": "codebert", "switch_every": 7},
            "switch_every: not read with `optimizer: adamw`; leave it out, or write badam as `optimizer`",
        ),
        (
            "models",
            {"architecture": "codebert", "block_order": "ascending"},
            "block_order: not read with `optimizer: adamw`; leave it out, or write badam as `optimizer`",
        ),
        (
            "attacks",
            {"method": "codepoisoner_deadcode", "target_predicate": "2=2"},
            "target_predicate: not read with `target_place: whole`; leave it out, or write where_clause as "
            "`target_place`",
        ),
    ],
)
def test_a_setting_that_is_not_read_is_refused(section: str, settings: dict[str, Any], message: str) -> None:
    assert refusal({section: {"mine": settings}}) == f"{section}.mine: {message}"


def test_what_is_read_and_what_an_overlay_leaves_behind_is_accepted() -> None:
    validate(
        merge(DEFAULT, {"models": {"mine": {"architecture": "codebert", "optimizer": "badam", "switch_every": 7}}})
    )
    validate(
        merge(DEFAULT, {"purifications": {"mine": {"method": "onion", "threshold": 0.0, "calibration_inputs": 9}}})
    )


def test_an_undefended_victim_is_no_control_of_itself() -> None:
    kept = {"cross_entropy": {"method": "cross_entropy", "keep_epochs": True}}
    stopped = {"method": "cross_entropy", "checkpoint": {"like": "cross_entropy"}}
    assert refusal({"objectives": kept | {"stopped": stopped}}) == (
        "objectives.stopped.checkpoint.like: 'cross_entropy' is the undefended objective, so that this would be the "
        "undefended victim itself; name the objective of a defense"
    )
    dece = {"dece": {"method": "dece"}, "cross_entropy": {"method": "cross_entropy", "stop_like": "dece"}}
    assert refusal({"objectives": dece}) == (
        "objectives.cross_entropy.stop_like: this is the undefended objective, which trains all epochs; declare "
        "another variant"
    )


def test_a_missing_helper_is_named_with_its_folder() -> None:
    purifications = {"mine": {"method": "onion", "language": "english"}}
    grid = [{"datasets": ["debt"], "models": ["codebert"], "attacks": ["none"], "purifications": ["mine"]}]
    raw = merge(DEFAULT, {"datasets": {"debt": {"task": "technical_debt"}}, "purifications": purifications})
    with pytest.raises(UserError) as error:
        validate({**raw, "helpers": {}, "experiments": {"mine": {"title": "Mine", "grid": grid}}})
    (line,) = str(error.value).splitlines()
    assert line.startswith("experiments.mine: purification 'mine' needs helpers.english_model: write ")
    assert line.endswith("runs/local/models/base/english after `make pretrain` (recipe pretraining.english)")
    assert set(HELPER_FAMILIES.values()) <= set(DEFAULT["pretraining"])


@pytest.mark.parametrize(
    ("section", "settings", "message"),
    [
        (
            "attacks",
            {"method": "codepoisoner_deadcode", "name": "foo"},
            "attacks.mine (codepoisoner_deadcode) has no key `name`; its keys: assertion, block, declaration, failed, ",
        ),
        (
            "models",
            {"architecture": "codet5", "lora": {"rank": 8}},
            "unknown key models.mine.lora; did you mean models.mine.adapters?",
        ),
        (
            "models",
            {"architecture": "codet5", "badam": True},
            "unknown key models.mine.badam; did you mean models.mine.optimizer?",
        ),
    ],
)
def test_an_unknown_key_is_compared_with_those_of_its_method(
    section: str, settings: dict[str, Any], message: str
) -> None:
    assert refusal({section: {"mine": settings}}).startswith(message)


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("lora", "LoRA is the setting `adapters` of models (codebert, graphcodebert, unixcoder, ...): codebackdoor "),
        ("badam", "badam is a value of `optimizer` of models (codebert, "),
        ("vulnerability", "vulnerability is a figure of experiments: codebackdoor describe experiments"),
        ("pages", "pages is a setting of experiments: codebackdoor describe experiments"),
        ("checkpoint", "checkpoint is a setting of objectives (cross_entropy): codebackdoor describe cross_entropy"),
        ("DeCE-", "; did you mean 'dece'?"),
    ],
)
def test_describe_says_what_a_word_is(word: str, meaning: str) -> None:
    with pytest.raises(UserError) as error:
        describing.describe(word)
    assert meaning in str(error.value)
    assert len(str(error.value).splitlines()) <= 1 + MOST


def test_describe_suggests_five_names_at_most() -> None:
    assert suggestions("code").count("\n") <= MOST
    assert suggestions("qqqqqq").startswith("; `codebackdoor describe` lists all. For a variant, also name")


@pytest.mark.parametrize(("method", "key"), [("codegen", "adapters"), ("cross_entropy", "checkpoint")])
def test_describe_shows_null_as_null_and_the_keys_below_as_comments(method: str, key: str) -> None:
    text = describing.describe(method)
    (settings,) = yaml.safe_load(text).values()
    assert settings[key] is None
    assert f"  {key}: null\n  #   # " in text


def test_describe_leaves_out_what_other_heads_read() -> None:
    (ripple,) = yaml.safe_load(describing.describe("ripple")).values()
    assert not {"target_word", "pair"} & set(ripple)
    assert {"target_label", "target_text"} <= set(ripple)
    assert "functions" not in describing.describe("ripple")
    assert "target_word" in describing.describe("badcode")
