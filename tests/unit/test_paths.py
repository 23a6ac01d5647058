"""Every path of a configuration is expanded and written in one way, by one rule, or refused with the key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from codebackdoor.config.loading import merge, parse, read_yaml, validate
from codebackdoor.config.paths import helper_folder, model_folder, normalized, run_folder
from codebackdoor.config.scenario import rate_text
from codebackdoor.dag import Dag
from codebackdoor.errors import UserError

ROOT = Path(__file__).parents[2]
DEFAULT = read_yaml(ROOT / "config.yaml")
COMMIT = "0" * 40


@pytest.fixture(autouse=True)
def _homes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HOME", "/homes/ada")
    monkeypatch.setenv("SCRATCH", "/scratch/ada")
    monkeypatch.setenv("DEPTH", "two/levels")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("STRANGE", "a{b}")
    monkeypatch.delenv("UNSET", raising=False)


#: What somebody may write, and how it is written from then on.
WRITTEN = {
    "runs/case": "runs/case",
    "./runs/case": "runs/case",
    "runs/case/": "runs/case",
    "runs//case": "runs/case",
    ".//runs/./case//": "runs/case",
    "runs/other/../case": "runs/case",
    f"{ROOT}/runs/case": "runs/case",
    f"/{ROOT}/runs/case/": "runs/case",
    "../elsewhere/case": "../elsewhere/case",
    "/data/case/": "/data/case",
    "//data/case": "/data/case",
    "~": "/homes/ada",
    "~/case": "/homes/ada/case",
    "$SCRATCH/case": "/scratch/ada/case",
    "${SCRATCH}/case/": "/scratch/ada/case",
    "runs/$DEPTH/${DEPTH}": "runs/two/levels/two/levels",
    "$HOME/case": "/homes/ada/case",
    "runs/a b'c\\é": "runs/a b'c\\é",
    "runs/a$DEPTH": "runs/atwo/levels",
}

#: What is refused, and a part of the sentence.
REFUSED = {
    "": "the path is empty",
    "  ": "the path is empty",
    "$UNSET/case": "$UNSET is not set in the environment; set it, or write out the path",
    "${UNSET}/case": "${UNSET} is not set in the environment",
    "$EMPTY/case": "$EMPTY is not set in the environment",
    "runs/$": "$ must be followed by the name of an environment variable",
    "runs/${": "$ must be followed by the name of an environment variable",
    "runs/$(id)": "$ must be followed by the name of an environment variable",
    "~nobody-has-this-name/case": "'~nobody-has-this-name': no such home folder",
    "runs/{x}": "braces are reserved for wildcards of the workflow",
    "runs/a{": "braces are reserved for wildcards of the workflow",
    "runs/a}b": "braces are reserved for wildcards of the workflow",
    "runs/$STRANGE": "braces are reserved for wildcards of the workflow",
    " runs/case": "leading or trailing spaces",
    "runs/case\n": "control characters",
    "runs/\x1b[2J": "control characters",
    "runs/a\0b": "control characters",
    "runs/\u202etxt": "control characters",
    "s3://bucket/runs": "the workflow cannot use this path",
    "-runs": "names that begin with - have a special meaning",
    "./-runs": "names that begin with - have a special meaning",
    "./~": "names that begin with ~ have a special meaning",
    "runs/" + "x" * 300: "too long for file systems",
    "runs/" + "é" * 200: "too long for file systems",
    "x/" * 2000: "too long for file systems",
}


@pytest.mark.parametrize(("text", "path"), WRITTEN.items())
def test_a_path_is_written_in_one_way(text: str, path: str) -> None:
    assert normalized(text) == path
    # settings travel to jobs as they are then, and are read again there
    assert normalized(path) == path


@pytest.mark.parametrize(("text", "message"), REFUSED.items())
def test_a_path_that_cannot_be_used_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        normalized(text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


def test_up_behind_a_link_is_above_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "far/folder").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far/folder")
    assert normalized(f"{tmp_path}/link/../rows") == f"{tmp_path}/far/rows"
    assert normalized(f"{tmp_path}/link/rows") == f"{tmp_path}/link/rows"


def _placed(key: str, text: str) -> dict[str, Any]:
    places: dict[str, dict[str, Any]] = {
        "out": {"out": text},
        "mirror": {"mirror": text},
        "tokenizer": {"tokenizer": text},
        "helpers.infiller": {"helpers": {"infiller": text}},
        "datasets.defects.path": {"datasets": {"defects": {"source": "jsonl", "path": text}}},
        "models.codebert.base": {"models": {"codebert": {"base": text}}},
        "eliminations.elibadcode.calibration": {"eliminations": {"elibadcode": {"calibration": text}}},
    }
    return merge(DEFAULT, places[key])


KEYS = (
    *("out", "mirror", "tokenizer", "helpers.infiller", "datasets.defects.path", "models.codebert.base"),
    "eliminations.elibadcode.calibration",
)


@pytest.mark.parametrize("key", KEYS)
def test_every_path_of_a_configuration_goes_by_the_rule(key: str) -> None:
    for text, path in (("~/x", "/homes/ada/x"), ("${SCRATCH}//x/", "/scratch/ada/x"), ("./runs/x/", "runs/x")):
        value: Any = validate(_placed(key, text))
        for name in key.split("."):
            value = value[name] if isinstance(value, dict) else getattr(value, name)
        assert str(value) == (f"./{path}" if key.endswith("base") and not path.startswith("/") else path)
    for text, message in (
        ("$UNSET/x", "$UNSET is not set"),
        ("./a{b", "braces are reserved"),
        ("./a\tb", "control characters"),
    ):
        with pytest.raises(UserError) as error:
            validate(_placed(key, text))
        # an entry of a section has its method in the path that pydantic reports, and not in the message
        assert str(error.value).startswith(f"{key}: ")
        assert message in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", [".", "..", "/", "./", "runs/..", "../..", str(ROOT), f"{ROOT}/", str(ROOT.parent)])
def test_a_run_has_a_folder_of_its_own(text: str) -> None:
    with pytest.raises(
        UserError, match=r"^out: .* is the working directory or one of its parents; use a separate folder"
    ):
        validate(DEFAULT | {"out": text})


def test_a_run_is_in_no_link_to_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(ROOT)
    with pytest.raises(ValueError, match="working directory"):
        run_folder(str(tmp_path / "link"))


def test_the_files_of_a_run_are_the_same_however_its_folder_is_written() -> None:
    targets = Dag(validate(DEFAULT | {"out": "runs/case"})).targets()
    assert all(target.startswith("runs/case/results/") for target in targets)
    for text in ("./runs/case", "runs/case/", "runs//case", f"{ROOT}/runs/case"):
        assert Dag(validate(DEFAULT | {"out": text})).targets() == targets


def test_what_a_run_makes_is_known_however_it_is_written(tmp_path: Path) -> None:
    overrides = {"tokenizer": f"{ROOT}/runs/case//models/base/tokenizer.json", "out": "./runs/case/"}
    Dag(validate(merge(DEFAULT, overrides))).check_files()


def test_calibrations_may_be_named_by_data_set_and_model_and_nothing_else() -> None:
    key = "eliminations.elibadcode.calibration"
    validate(_placed(key, "~/mine_{dataset}_{model}.json"))
    with pytest.raises(
        UserError, match=r"braces are reserved for wildcards of the workflow; remove them except for {dataset}, {m"
    ):
        validate(_placed(key, "~/mine_{elimination}.json"))


def test_folders_of_models_are_told_from_the_hub() -> None:
    assert [model_folder(text) for text in ("shipped", "owner/name", "./a/", "a/../b", "$SCRATCH/m", "../m")] == [
        *("shipped", "owner/name", "./a", "a/../b", "/scratch/ada/m", "../m")
    ]
    assert model_folder(f"{ROOT}/basemodels/encoder") == "./basemodels/encoder"
    assert helper_folder("./basemodels//causal") == "basemodels/causal"
    assert helper_folder(f"owner/name@{COMMIT}") == f"owner/name@{COMMIT}"
    # a folder that is named like a checkpoint of the hub
    folder = f"./owner/name@{COMMIT}"
    assert helper_folder(f"{folder}/") == folder == helper_folder(folder)


def test_settings_that_travel_are_those_that_were_checked() -> None:
    config = validate(_placed("datasets.defects.path", "~/rows/"))
    text = Dag(config).parameters.settings("dataset", "defects")
    from codebackdoor.config.datasets import AnyDataset

    assert parse(AnyDataset, text, "--dataset") == config.datasets["defects"]


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0, "0"), (0.05, "0.05"), (0.1, "0.1"), (0.5, "0.5"), (1.0, "1"), (1e-05, "0.00001"), (2.5e-7, "0.00000025"),
        (0.1234561, "0.1234561"), (0.1234562, "0.1234562"), (1 / 3, "0.3333333333333333"),
    ],
)  # fmt: skip
def test_a_rate_in_a_path_is_that_rate_and_no_other(rate: float, text: str) -> None:
    assert rate_text(rate) == text
    assert float(text) == rate


def _grid(**lists: Any) -> dict[str, Any]:
    grid = {"datasets": ["defects"], "models": ["codebert"], "attacks": ["none", "codepoisoner_func"], **lists}
    return {**DEFAULT, "experiments": {"mine": {"title": "t", "grid": [grid]}}}


def test_rates_that_differ_have_scenarios_of_their_own_and_equal_ones_are_refused() -> None:
    rates = [0.1234561, 0.1234562, 1e-05]
    assert {scenario.rate for scenario in validate(_grid(rates=rates)).scenarios()} == {"0", *map(rate_text, rates)}
    for name, values, twice in (
        ("rates", [0.05, 0.050], "0.05"),
        ("seeds", [1, 2, 1], "1"),
        ("seeds", ["7", 7], "7"),
        ("attacks", ["codepoisoner_func", "codepoisoner_func"], "codepoisoner_func"),
    ):
        with pytest.raises(UserError, match=rf"^experiments\.mine\.grid\.0\.{name}: {twice} occurs twice"):
            validate(_grid(**{name: values}))
    with pytest.raises(UserError, match=r"^seeds: 3 occurs twice; write it once$"):
        validate(DEFAULT | {"seeds": [3, 3]})
    with pytest.raises(UserError, match=r"^shadows: 101 occurs twice"):
        validate(DEFAULT | {"shadows": [101, 101, 102, 103, 104]})
    with pytest.raises(
        UserError, match=r"rates\.0: 1e-300 is less than one row of any training set; write a larger share"
    ):
        validate(_grid(rates=[1e-300]))
