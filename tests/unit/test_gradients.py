"""The gradient of each objective by the probability of the label, against closed forms, and its figure (DeCE, 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from made_up_run import make, settings

from codebackdoor.cli import main
from codebackdoor.config.loading import load
from codebackdoor.config.products import inputs
from codebackdoor.defenses import objectives
from codebackdoor.defenses.objectives import Objective
from codebackdoor.defenses.objectives.cross_entropy.settings import CrossEntropySettings
from codebackdoor.defenses.objectives.dece.settings import DeCESettings
from codebackdoor.defenses.objectives.gce.settings import GceSettings
from codebackdoor.defenses.objectives.gradients import EPOCHS, curve, write_curves
from codebackdoor.defenses.objectives.in_trust.settings import InTrustSettings
from codebackdoor.files import read_json
from codebackdoor.report import stage
from codebackdoor.report.figures import gradients as figure
from codebackdoor.report.study import Study

PS = (1e-6, 1e-3, 0.3, 0.9)
CLASSES = 5
CROSS_ENTROPY = objectives.load(CrossEntropySettings(method="cross_entropy"))


def derivatives(objective: Objective, epoch: int = 1) -> list[float]:
    return curve(objective, epoch, PS, CLASSES)["derivative"]


def dece(epsilon: float, alpha: float = 0.99) -> Objective:
    return objectives.load(DeCESettings(method="dece", alpha=alpha, epsilon=epsilon))


def gce(q: float) -> Objective:
    return objectives.load(GceSettings(method="gce", q=q))


def test_cross_entropy_has_no_bound() -> None:
    assert derivatives(CROSS_ENTROPY) == pytest.approx([-1 / p for p in PS], rel=1e-4)
    # by the logits, p - onehot
    rest = CLASSES - 1
    norms = [((1 - p) ** 2 + rest * ((1 - p) / rest) ** 2) ** 0.5 for p in PS]
    assert curve(CROSS_ENTROPY, 1, PS, CLASSES)["norm"] == pytest.approx(norms, rel=1e-4)


@pytest.mark.parametrize("q", [0.5, 0.7])
def test_gce_weighs_cross_entropy_by_a_power_of_p(q: float) -> None:
    """Zhang and Sabuncu's q and that of the experiments of DeCE's paper differ by 16 times at p = 1e-6."""
    assert derivatives(gce(q)) == pytest.approx([-(p ** (q - 1)) for p in PS], rel=1e-3)


@pytest.mark.parametrize("alpha", [1.0, 0.2])
def test_in_trust_is_unbounded_by_its_share_of_cross_entropy(alpha: float) -> None:
    """Its authors' code has the weight 1, the experiments of DeCE's paper 0.2."""
    in_trust = objectives.load(InTrustSettings(method="in_trust", alpha=alpha))
    assert derivatives(in_trust)[0] == pytest.approx(-alpha / 1e-6, rel=0.001)


@pytest.mark.parametrize("epoch", EPOCHS)
def test_dece_is_bounded_and_more_so_in_later_epochs(epoch: int) -> None:
    weight = 0.99**epoch
    closed = [-weight / (weight * p + 1 - weight) for p in PS]
    assert derivatives(dece(0), epoch) == pytest.approx(closed, rel=1e-4)
    bound = weight / (1 - weight)
    # the bound holds by each probability; along p the other classes have less than one, with the opposite sign
    assert -bound < derivatives(dece(0.1), epoch)[0] < -0.97 * bound
    assert min(derivatives(dece(0.1, alpha=1), epoch)) < -8e5  # smoothing alone is no bound


def test_the_norm_of_a_row_that_contradicts_the_model_falls_with_the_bound() -> None:
    at = {epoch: curve(dece(0.1), epoch, [1e-6], 32100)["norm"][0] for epoch in EPOCHS}
    assert list(at.values()) == sorted(at.values(), reverse=True)
    assert at[1] < 0.2 < 1 < curve(CROSS_ENTROPY, 1, [1e-6], 32100)["norm"][0] * 1.01


def test_the_figure_has_a_curve_for_each_epoch_where_they_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codebackdoor.defenses.objectives.gradients.CLASSES", 50)
    config: dict[str, Any] = settings(tmp_path / "run")
    make(config)
    experiment = Study(config, "repair").experiment
    paths = inputs(experiment, "gradients", config["out"])
    assert {path.stem for path in paths} == set(experiment.grid[0].objectives) | {"cross_entropy", *(
        name for grid in experiment.grid for name in grid.objectives
    )}  # fmt: skip
    for path in paths:
        kind = dece(0.1) if path.stem == "dece" else CROSS_ENTROPY
        write_curves(kind, path)
    stage.figure(config, "repair", "gradients", paths, tmp_path)
    assert (tmp_path / "repair_gradients.png").read_bytes().startswith(b"\x89PNG")
    epochs = read_json(next(path for path in paths if path.stem == "dece"))["epochs"]
    assert [name for name, _ in figure.curves("DeCE", epochs)] == [f"DeCE, epoch {epoch}" for epoch in EPOCHS]
    plain = read_json(next(path for path in paths if path.stem == "cross_entropy"))["epochs"]
    assert [name for name, _ in figure.curves("CE", plain)] == ["CE"]


def test_readings_of_the_baselines_are_told_apart() -> None:
    """The variants of ``configs/dece.yaml``: at p = 1e-6, by the closed forms of their papers' formulas."""
    root = Path(__file__).parents[2]
    config = load([root / "config.yaml", root / "configs/dece.yaml"])
    names = ("gce", "gce_released", "in_trust", "in_trust_released", "smoothing")
    at = {name: derivatives(objectives.load(config.objectives[name]))[0] for name in names}
    assert at["gce"] == pytest.approx(-(1e-6**-0.3), rel=1e-3)
    assert at["gce_released"] == pytest.approx(-(1e-6**-0.5), rel=1e-3)
    assert at["in_trust"] == pytest.approx(-1e6, rel=1e-3)
    assert at["in_trust_released"] == pytest.approx(-0.2e6, rel=1e-3)
    assert at["smoothing"] == pytest.approx(-(1 - 0.1 + 0.1 / CLASSES) * 1e6, rel=1e-3)


def test_the_command_writes_the_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codebackdoor.defenses.objectives.gradients.EPOCHS", (3,))
    arguments = ["gradients", "--objective", '{"method": "gce"}', "--out", str(tmp_path / "gce.json")]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert [epoch["epoch"] for epoch in read_json(tmp_path / "gce.json")["epochs"]] == [3]
