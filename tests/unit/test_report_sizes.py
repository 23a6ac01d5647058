"""How large the victims are stands in every table, figure and caption, as the folders of the victims have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_up_run import make, settings
from made_up_victims import CONFIGS, write_victim
from safetensors.numpy import load_file

from codebackdoor.config.products import inputs, victims
from codebackdoor.config.scenario import Scenario
from codebackdoor.errors import UserError
from codebackdoor.report import captions, sizes, stage
from codebackdoor.report.figures import style
from codebackdoor.report.products import FIGURES, PRODUCTS
from codebackdoor.report.sizes import VictimSize
from codebackdoor.report.study import Study

ROOT = Path(__file__).parents[2]
SMALL = "Victims: CodeBERT-class, 2 layers × 128, 1.0 M parameters."


@pytest.fixture
def run(tmp_path: Path) -> dict[str, Any]:
    config = settings(tmp_path)
    make(config)
    return config


@pytest.mark.parametrize(
    ("architecture", "parameters", "text"),
    [
        ("codebert", 954_882, "2 layers × 128, 1.0 M parameters"),
        ("codet5", 1_444_000, "2 + 3 layers × 96, 1.4 M parameters"),
        ("starcoder", 9_960_000, "4 layers × 64, 10 M parameters"),
        ("starcoder", 1_137_000_000, "4 layers × 64, 1137 M parameters"),
    ],
)
def test_a_size_is_read_off_a_folder(architecture: str, parameters: int, text: str, tmp_path: Path) -> None:
    write_victim(tmp_path, CONFIGS[architecture], parameters)
    assert sizes.size(tmp_path).parameters == parameters
    assert str(sizes.size(tmp_path)) == text


def test_an_encoder_with_a_decoder_has_two_stacks(tmp_path: Path) -> None:
    write_victim(tmp_path, CONFIGS["codebert"] | {"decoder_layers": 6}, 1_400_000)
    assert str(sizes.size(tmp_path)) == "2 + 6 layers × 128, 1.4 M parameters"


@pytest.mark.parametrize(("base", "layers"), [("encoder", (2,)), ("seq2seq", (2, 2)), ("decoder", (2,))])
def test_the_shipped_base_models_have_the_size_that_their_weights_have(base: str, layers: tuple[int, ...]) -> None:
    folder = ROOT / "basemodels" / base
    parameters = sum(weights.size for weights in load_file(folder / "model.safetensors").values())
    assert sizes.size(folder) == VictimSize(layers, 128, parameters)


def test_the_papers_scale_is_called_what_it_is(run: dict[str, Any]) -> None:
    run["models"]["codebert"]["base"] = "microsoft/codebert-base"
    config = {"model_type": "roberta", "num_hidden_layers": 12, "hidden_size": 768}
    write_victim(victims(Study(run, "defects").experiment, run["out"], {})["codebert", "defects"], config, 124_647_170)
    assert sizes.sentence(Study(run, "defects")) == (
        "Victims: CodeBERT-class (microsoft/codebert-base), 12 layers × 768, 125 M parameters."
    )


def test_the_size_is_that_of_a_trained_victim_of_each_variant(run: dict[str, Any]) -> None:
    study = Study(run, "defects")
    assert victims(study.experiment, run["out"], {}) == {
        ("codebert", "defects"): Scenario("defects", "codebert").victim(run["out"])
    }
    assert sizes.sentence(study) == SMALL
    # variants of one class and size are said once
    run["models"]["other"] = run["models"]["codebert"]
    run["experiments"]["defects"]["grid"][0]["models"] = ["codebert", "other"]
    make(run)
    assert sizes.sentence(Study(run, "defects")) == SMALL


@pytest.mark.parametrize("form", ["md", "tex"])
def test_every_table_says_it(run: dict[str, Any], form: str, tmp_path: Path) -> None:
    study = Study(run, "defects")
    stage.table(run, "defects", inputs(study.experiment, "table", run["out"]), tmp_path)
    stage.listing(run, "defects", "overview", inputs(study.experiment, "overview", run["out"]), tmp_path)
    for stem in ("defects", "defects.overview"):
        assert SMALL in (tmp_path / f"{stem}.{form}").read_text()


def test_every_figure_of_victims_says_it_in_its_caption_and_in_itself(
    run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = []
    monkeypatch.setattr(style, "save", lambda _figure, _out, note=None: notes.append(note))
    for kind in Study(run, "defects").experiment.figures:
        stage.figure(run, "defects", kind, inputs(Study(run, "defects").experiment, kind, run["out"]), tmp_path)
        assert SMALL in captions.caption(Study(run, "defects"), kind)
    assert notes == [SMALL] * 3
    modules = Path(style.__file__).parent
    with_note = {kind for kind in FIGURES if "sizes.sentence(study)" in (modules / f"{kind}.py").read_text()}
    # figures of data sets and of losses have no victim
    assert with_note == {kind for kind in FIGURES if PRODUCTS[kind].subject == "victims"}


def test_a_victim_that_is_not_there_is_named(run: dict[str, Any]) -> None:
    study = Study(run, "defects")
    (victims(study.experiment, run["out"], {})["codebert", "defects"] / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"codebert/none-0/seed1/.*/model\.safetensors: not made yet"):
        sizes.sentence(study)
