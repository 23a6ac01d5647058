"""Figures of a made-up run: all formats, the same bytes twice, and a clear word where there is nothing to draw."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import made_up_grid
import pytest
from made_up_run import make, settings
from matplotlib.figure import Figure
from PIL import Image

from codebackdoor.config.products import inputs
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.errors import UserError
from codebackdoor.files import read_json, write_json
from codebackdoor.report import stage
from codebackdoor.report.collect import collect
from codebackdoor.report.figures import defenses, style
from codebackdoor.report.figures.description import describe, unlisted
from codebackdoor.report.study import Study
from codebackdoor.report.tables.results import build


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    config = settings(tmp_path_factory.mktemp("run"))
    make(config)
    return config


def draw(run: dict[str, Any], name: str, kind: str, out: Path) -> dict[str, bytes]:
    stage.figure(run, name, kind, inputs(Study(run, name).experiment, kind, run["out"]), out)
    return {suffix: (out / f"{name}_{kind}.{suffix}").read_bytes() for suffix in ("svg", "png", "pdf")}


@pytest.mark.parametrize(
    ("name", "kind"), [("repair", "defenses"), ("defects", "matrix"), ("defects", "inversion"), ("repair", "suspicion")]
)
def test_every_kind_is_drawn_in_three_formats(run: dict[str, Any], name: str, kind: str, tmp_path: Path) -> None:
    images = draw(run, name, kind, tmp_path)
    assert images["png"].startswith(b"\x89PNG")
    assert images["pdf"].startswith(b"%PDF")
    assert b"<svg " in images["svg"]
    # text is drawn, and looks the same without the font
    assert b"<text" not in images["svg"]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".pdf", ".png", ".svg"]


def test_the_same_numbers_give_the_same_bytes(run: dict[str, Any], tmp_path: Path) -> None:
    first = draw(run, "repair", "epochs", tmp_path / "a")
    assert draw(run, "repair", "epochs", tmp_path / "b") == first
    for content in first.values():
        assert b"CreationDate" not in content
        assert b"matplotlib v" not in content.lower()
        assert b"<dc:date>" not in content


def description(drawn: dict[str, bytes]) -> str:
    return ElementTree.fromstring(drawn["svg"]).findtext(".//{http://purl.org/dc/elements/1.1/}description", "")


def test_the_matrix_tells_a_collapsed_victim_from_a_combination_that_is_not_in_the_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tmp_path)
    make(config)
    drawn: list[tuple[list[str], str]] = []

    def save(figure: Figure, out: Path, note: str) -> None:
        drawn.append(([text.get_text() for axes in figure.axes for text in axes.texts], note))

    monkeypatch.setattr(style, "save", save)
    files = inputs(Study(config, "defects").experiment, "matrix", config["out"])
    stage.figure(config, "defects", "matrix", files, tmp_path / "figures")
    [path] = tmp_path.glob("results/defects/codebert/by_name-*/seed1/none/cross_entropy/none/onion/metrics.json")
    measured = read_json(path)
    measured["testsets"]["by_name"]["metrics"]["flip_rate"] |= {"value": None, "low": None, "high": None}
    write_json(path, measured)
    stage.figure(config, "defects", "matrix", files, tmp_path / "figures")
    (texts, note), (later_texts, later_note) = drawn
    assert "×" not in texts
    assert "×:" not in note
    assert later_texts.count("×") == 1
    assert "×: no value; there is no flip rate" in later_note


def test_the_matrix_has_a_dash_where_the_study_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = made_up_grid.settings(tmp_path)
    made_up_grid.make(config)
    experiment = config["experiments"]["all"]
    assert any(dash.get("elimination") == "dbs" for dash in experiment["dashes"])
    notes: list[str] = []
    monkeypatch.setattr(style, "save", lambda figure, out, note: notes.append(note))
    files = inputs(Study(config, "all").experiment, "matrix", config["out"])
    stage.figure(config, "all", "matrix", files, tmp_path / "figures")
    assert len(notes) == 1
    assert "×:" not in notes[0]


def test_a_figure_says_what_it_shows(run: dict[str, Any], tmp_path: Path) -> None:
    path = Scenario("repair", "codet5", "deadcode", "0.05", objective="dece").results(run["out"]) / "metrics.json"
    measured = read_json(path)
    measured["testsets"]["deadcode"]["metrics"]["flip_rate"] |= {"value": 0.123, "low": 0.1, "high": 0.2}
    write_json(path, measured)
    text = description(draw(run, "repair", "defenses", tmp_path))
    assert text.startswith(
        "repair · CodeT5 · Dead code at 5%: Flip rate, %: Flip rate Benign 4, Undefended 100, DeCE 12.3"
    )
    assert "floor: the same rows without the trigger Benign 0, Undefended 0" in text
    assert "baseline without a neural model at 91" in text
    assert "Cross entropy from " in description(draw(run, "repair", "epochs", tmp_path))


def test_a_filters_panel_is_named_and_the_legend_has_the_losses_of_all_panels(
    run: dict[str, Any], tmp_path: Path
) -> None:
    study = Study(run, "repair")
    paths = [Path(path) for path in inputs(study.experiment, "epochs", run["out"])]
    unfiltered = next(path for path in paths if "/none/cross_entropy/" in str(path))
    filtered = tmp_path / str(unfiltered.relative_to(run["out"])).replace("/none/cross_entropy/", "/bki/cross_entropy/")
    filtered.parent.mkdir(parents=True)
    filtered.write_bytes(unfiltered.read_bytes())
    stage.figure({**run}, "repair", "epochs", [filtered, *paths], tmp_path)
    text = description({"svg": (tmp_path / "repair_epochs.svg").read_bytes()})
    assert "BKI: BLEU-4" in text
    assert "DeCE from " in text


def test_a_history_without_bleu_shows_exact_match(run: dict[str, Any], tmp_path: Path) -> None:
    assert "BLEU-4, clean rows" in description(draw(run, "repair", "epochs", tmp_path))
    for path in Path(run["out"]).glob("models/repair/**/history.json"):
        history = read_json(path)
        for epoch in history["epochs"]:
            epoch["exact_match"] = epoch.pop("bleu", 0.1)
        write_json(path, history)
    assert "Exact match, clean rows" in description(draw(run, "repair", "epochs", tmp_path))


@pytest.mark.parametrize(("losses", "panels", "lines"), [(1, 6, 3), (2, 18, 2)])
def test_epochs_of_many_victims_are_not_all_side_by_side(
    run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losses: int, panels: int, lines: int
) -> None:
    epochs = [{"epoch": 1, "bleu": 0.5, "asr": 0.9, "floor": 0.0}]
    paths = []
    for loss in ("cross_entropy", "dece")[:losses]:
        for model in ("codet5", "codet5p", "codegen"):
            for rate in ("0.01", "0.05"):
                for attack in ("deadcode", "by_name", "badpre"):
                    victim = Scenario("repair", model, attack, rate, seed="1", objective=loss).victim(tmp_path)
                    write_json(victim / "history.json", {"epochs": epochs})
                    paths.append(victim / "history.json")
    drawn: list[Figure] = []
    monkeypatch.setattr(style, "save", lambda figure, _out, _note: drawn.append(figure))
    stage.figure(run, "repair", "epochs", paths, tmp_path / "figures")
    (figure,) = drawn
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible() and axes.get_title(loc="left")]
    assert len(set(titles)) == len(titles) == panels
    assert ("repair · BadPre at 1%" in titles) == (losses == 1)
    assert figure.get_figwidth() < 19
    (legend,) = figure.legends
    assert len(legend.get_texts()) == lines


def test_a_legend_of_many_losses_fits_the_figure(
    run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = []
    for number in range(9):
        victim = Scenario("repair", "codet5", "deadcode", "0.05", seed="1", objective=f"cross_entropy_{number}")
        epochs = [{"epoch": 1, "bleu": 0.5, "asr": 0.9, "floor": 0.0}]
        write_json(victim.victim(tmp_path) / "history.json", {"epochs": epochs})
        paths.append(victim.victim(tmp_path) / "history.json")
    drawn: list[Figure] = []
    monkeypatch.setattr(style, "save", lambda figure, _out, _note: drawn.append(figure))
    stage.figure(run, "repair", "epochs", paths, tmp_path / "figures")
    (figure,) = drawn
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert legend.get_window_extent().width < figure.bbox.width


def test_the_epochs_of_a_ranking_victim_show_its_anr(run: dict[str, Any], tmp_path: Path) -> None:
    search = run | {"datasets": run["datasets"] | {"repair": {"task": "code_search"}}}
    for path in Path(run["out"]).glob("models/repair/**/history.json"):
        epochs = [{"epoch": epoch, "mrr": 0.5, "anr": 0.1, "anr_without": 0.5} for epoch in (1, 2)]
        write_json(path, {"kept_epoch": 2, "epochs": epochs})
    text = description(draw(search, "repair", "epochs", tmp_path))
    assert "MRR, clean rows, %: Cross entropy 50 at 1, 50 at 2" in text
    assert "ANR, % (dotted: without the trigger): Cross entropy 10 at 1, 10 at 2" in text


def test_a_description_names_bars_lines_and_outlines() -> None:
    with style.drawing(4, 3) as figure:
        bars, lines, outlines = figure.subplots(1, 3)
        bars.barh([0, 1, 2], [0.5, 0.0, 0.25])
        bars.set_yticks([0, 1, 2], ["total", "rows", "key"])
        bars.set_xlabel("Score")
        lines.plot([1, 2], [5.0, 3.0], label="loss")
        lines.plot([1, 2], [0.0, 0.0])
        outlines.hist([1.0, 1.0, 3.0], bins=[0.0, 2.0, 4.0], histtype="step", label=unlisted("all"))
    assert describe(figure) == "Score: total 0.5, key 0.25. loss 5 at 1, 3 at 2. all peaks at 0 (2)."


def test_rows_of_one_metric_share_its_axis(
    run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(style, "save", lambda figure, _out, _note: figures.append(figure))
    stage.figure(run, "defects", "defenses", inputs(Study(run, "defects").experiment, "defenses", run["out"]), tmp_path)
    panels = figures[0].axes
    assert len(panels) == 9
    assert len({axes.get_xlim() for axes in panels[2::3]}) == 1
    assert [bool(axes.get_xlabel()) for axes in panels] == [False] * 6 + [True] * 3


def test_what_cannot_be_drawn_is_said(run: dict[str, Any], tmp_path: Path) -> None:
    only_onion = [
        path for path in inputs(Study(run, "defects").experiment, "suspicion", run["out"]) if "onion" in str(path)
    ]
    with pytest.raises(UserError, match="needs a purification that scores elements"):
        stage.figure(run, "defects", "suspicion", only_onion, tmp_path)
    with pytest.raises(UserError, match="needs an elimination that inverts triggers"):
        stage.figure(run, "repair", "inversion", [], tmp_path)
    assert not list(tmp_path.iterdir())


def test_colors_differ_in_lightness_or_hue_for_every_reader() -> None:
    """Okabe and Ito's palette: no two colors of the cycle come close under simulated deuteranopia (Machado 2009)."""
    matrix = ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969))
    perceived = []
    for color in style.CYCLE:
        rgb = [(int(color[i : i + 2], 16) / 255) ** 2.2 for i in (1, 3, 5)]
        perceived.append([sum(a * b for a, b in zip(row, rgb, strict=True)) for row in matrix])
    for index, first in enumerate(perceived):
        for second in perceived[index + 1 :]:
            assert sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) ** 0.5 > 0.1


def test_many_attacks_on_one_victim_share_its_panels(
    run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(run, "defects")
    table = build(study, collect(study, inputs(study.experiment, "defenses", run["out"])))
    groups = [group for group in table.groups if group.scenario.attack != NONE]
    assert len(groups) > 2
    assert [len(stack) for stack in defenses._stacks(groups)] == [1] * len(groups)
    apart = Image.open(BytesIO(draw(run, "defects", "defenses", tmp_path / "apart")["png"])).height
    monkeypatch.setattr(defenses, "_ALONE", 2)
    (stack,) = defenses._stacks(groups)
    assert [group for group, *_ in stack] == groups
    shifts, colors = {shift for _, shift, _ in stack}, {color for *_, color in stack}
    assert len(shifts) == len(colors) == len(groups)
    assert all(-0.5 < shift < 0.5 for shift in shifts)
    together = Image.open(BytesIO(draw(run, "defects", "defenses", tmp_path / "together")["png"])).height
    assert together < apart * 2 / 3
