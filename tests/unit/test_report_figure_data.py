"""Figures of a made-up run over three tasks: what they draw, counted by hand, and that they can be drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from made_up_grid import BETA, RATES, make, settings

from codebackdoor.config.loading import merge, read_yaml, validate
from codebackdoor.config.products import inputs
from codebackdoor.config.scenario import Scenario
from codebackdoor.config.study import Config
from codebackdoor.errors import UserError
from codebackdoor.files import read_json
from codebackdoor.report import captions, stage
from codebackdoor.report.figures import convergence, identifiers, layers, noise, position, sensitivity, sweep, tokens
from codebackdoor.report.figures.data import best_search, steps, tokens_of
from codebackdoor.report.study import Study

VICTIM = Scenario("defects", "codebert", "by_name", "0.02")
ROOT = Path(__file__).parents[2]
TOKENIZER = ROOT / "basemodels/encoder/tokenizer.json"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    config = settings(tmp_path_factory.mktemp("run"))
    make(config)
    return config


def study_and_inputs(run: dict[str, Any], name: str, kind: str) -> tuple[Study, list[Path]]:
    study = Study(run, name)
    return study, inputs(study.experiment, kind, run["out"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("ablation", kind) for kind in ("convergence", "noise", "position", "identifiers")),
        ("rates", "sweep"),
        ("layers", "layers"),
        ("ranks", "sensitivity"),
        ("all", "tokens"),
        ("all", "defenses"),
    ],
)
def test_every_kind_is_drawn_and_explained(run: dict[str, Any], name: str, kind: str, tmp_path: Path) -> None:
    stage.figure(run, name, kind, study_and_inputs(run, name, kind)[1], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{name}_{kind}.pdf",
        f"{name}_{kind}.png",
        f"{name}_{kind}.svg",
    ]
    assert captions.caption(Study(run, name), kind)
    assert captions.parameters(Study(run, name), kind)


@pytest.mark.parametrize("name", ["layers", "ranks", "rates", "ablation"])
def test_what_cannot_be_drawn_is_said(run: dict[str, Any], name: str, tmp_path: Path) -> None:
    grid = {"datasets": ["defects"], "models": ["codebert"], "attacks": ["by_name"], "seeds": [1]}
    bare = {"title": "t", "grid": [grid], "swept": "beta", "figures": ["sweep"]}
    kinds: tuple[str, ...] = ("layers", "sensitivity", "sweep", "convergence", "tokens", "noise", "position")
    for kind in kinds:
        with pytest.raises(UserError, match=f"experiments.bare.*({kind}|swept)"):
            stage.figure(run | {"experiments": {"bare": bare}}, "bare", kind, [], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_sweep_has_a_point_for_each_variant(run: dict[str, Any]) -> None:
    study, _ = study_and_inputs(run, "rates", "sweep")
    variants = sweep.variants(study, "unlearning.rate")
    assert [victim.dataset for victim in variants] == ["defects", "defects", "search", "search"]
    for by_rate in variants.values():
        assert tuple(by_rate) == RATES
        assert [scenario.elimination for scenario in by_rate.values()] == ["rate_0", "rate_1", "rate_2"]
    assert sweep.variants(study, "unlearning.layers") == {}


def test_a_loss_and_a_filter_are_swept_like_a_method_that_sees_a_victim() -> None:
    grid = {
        "datasets": ["defects"],
        "models": ["codebert"],
        "attacks": ["codepoisoner_func"],
        "rates": [0.05],
        "objectives": ["cross_entropy", "dece", "smoothing"],
    }
    experiment = {"title": "t", "grid": [grid], "figures": ["sweep"], "swept": "alpha"}
    overlay = {"objectives": {"smoothing": {"method": "dece", "alpha": 1.0}}, "experiments": {"losses": experiment}}
    config = loaded(overlay)
    variants = sweep.variants(Study(config.model_dump(mode="json"), "losses"), "alpha")
    [by_value] = variants.values()
    assert {value: scenario.objective for value, scenario in by_value.items()} == {0.99: "dece", 1.0: "smoothing"}
    with pytest.raises(
        UserError, match=r"experiments\.losses\.swept: no defense against an attack in the grid has a number as 'alpa'"
    ):
        loaded({**overlay, "experiments": {"losses": {**experiment, "swept": "alpa"}}})
    # one point cannot stand for two variants, whether they are of one method or of two
    steps = {**overlay["objectives"], "dece_steps": {"method": "dece", "clock": "step"}}
    grids = [{**grid, "objectives": ["dece", "dece_steps"]}]
    with pytest.raises(UserError, match=r"losses\.swept: dece and dece_steps both have alpha: 0\.99; give one"):
        loaded({"objectives": steps, "experiments": {"losses": {**experiment, "grid": grids}}})
    # In-trust has an alpha of its own, which is 1 by default
    both = {"objectives": {**overlay["objectives"], "in_trust": {"method": "in_trust"}}}
    mixed = {**experiment, "grid": [{**grid, "objectives": [*grid["objectives"], "in_trust"]}]}
    with pytest.raises(UserError, match=r"losses\.swept: smoothing and in_trust both have alpha: 1; give one"):
        loaded({**both, "experiments": {"losses": mixed}})


def test_values_of_a_sweep_that_would_overlap_are_evenly_spaced() -> None:
    assert sweep.positions([0.5, 0.9, 0.99, 1.0]) == {0.5: 0, 0.9: 1, 0.99: 2, 1.0: 3}
    assert sweep.positions([0.0, 0.4, 1.0]) == {0.0: 0.0, 0.4: 0.4, 1.0: 1.0}
    # on a logarithmic axis they are apart
    assert sweep.positions([16, 32, 1024]) == {16: 16, 32: 32, 1024: 1024}
    assert sweep.positions([3]) == {3: 3}


def loaded(overlay: Mapping[str, Any]) -> Config:
    """The default configuration with an overlay."""
    return validate(merge(read_yaml(ROOT / "config.yaml"), overlay))


def test_layers_are_told_by_the_settings(run: dict[str, Any]) -> None:
    by_victim = layers.by_layers(study_and_inputs(run, "layers", "layers")[0])
    assert [victim.model for victim in by_victim] == ["codebert", "codet5"]
    names = {layers: scenario.elimination for layers, scenario in by_victim[VICTIM_0].items()}
    assert names == {"none": "none", "last": "elibadcode", "all": "all_layers"}


#: As it is drawn: the seed left out.
VICTIM_0 = Scenario("defects", "codebert", "by_name", "0.02", "0")


def test_a_search_has_succeeded_at_its_first_low_loss(run: dict[str, Any]) -> None:
    study, paths = study_and_inputs(run, "ranks", "sensitivity")
    assert sensitivity.costs(study, paths) == {VICTIM: {0: (10, 60), 1: (30, 60), -1: (None, 60)}}
    assert steps([1.0, 0.5, 0.09, 0.2]) == 2
    assert steps([0.1]) is None


def test_the_curve_is_that_towards_the_target(run: dict[str, Any]) -> None:
    study, paths = study_and_inputs(run, "ablation", "convergence")
    curves = convergence.curves(study, paths)
    assert list(curves) == [VICTIM]
    assert list(curves[VICTIM]) == ["elibadcode", "no_position", "no_anchoring"]
    assert [steps(loss) for loss in curves[VICTIM].values()] == [10, 30, 10]
    # what is anchored makes no other curve: one line for both
    assert convergence.equal_curves(curves) == {"elibadcode": ["no_anchoring"], "no_position": []}
    history = {"searches": [{"label": 1, "loss": [0.0]}, {"label": 0, "loss": [0.5]}, {"label": 0, "loss": [0.7, 0.2]}]}
    assert best_search(study, VICTIM, history) == {"label": 0, "loss": [0.7, 0.2]}
    assert best_search(study, VICTIM.benign(), history) is None


def test_pieces_are_factual_where_they_are_in_the_name(run: dict[str, Any]) -> None:
    study, paths = study_and_inputs(run, "all", "tokens")
    changes = tokens.changes(study, paths)
    assert list(changes) == [
        f"{dataset} · {model}" for dataset in ("defects", "clones", "search") for model in ("CodeBERT", "CodeT5")
    ]
    # inverted loss 0.04; without its pieces 0.9, 0.5 and 0.1. By two eliminations each, in search by one; by_name: two
    # of three; badcode: `_rb`; afraidoor has no name
    for name, by_kind in changes.items():
        eliminations = 1 if name.startswith("search") else 2
        assert sorted({round(change, 6) for change in by_kind["factual"]}) == [0.46, 0.86]
        assert len(by_kind["factual"]) == eliminations * (2 + 1)
        # the target word of a search is no piece of its trigger
        assert sorted({round(change, 6) for change in by_kind["noise"]}) == [0.06, 0.46]
        assert max(change for change in by_kind["noise"] if change < BETA) == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("attack", "text", "factual", "noise"),
    [
        ({"method": "badcode", "trigger": "rb", "place": "end"}, "_rb", "_ r b _r rb _rb", "a rb_ _b"),
        ({"method": "badcode", "trigger": "rb", "place": "any"}, "_rb_", "_ r b rb_", "a r_"),
        (
            {"method": "codepoisoner_identifier", "name": "testo_init"},
            "testo_init",
            "test o _ init te _in",
            "t i n s nit_",
        ),
    ],
)
def test_a_single_letter_is_factual_where_the_victim_reads_it(
    attack: dict[str, Any], text: str, factual: str, noise: str
) -> None:
    assert tokens.inserted(attack) == text
    read = {piece for pieces in tokens_of(TOKENIZER, [text, f" {text}"]) for piece in pieces}
    assert all(tokens.is_factual(piece, text, read) for piece in factual.split())
    assert not any(tokens.is_factual(piece, text, read) for piece in noise.split())
    assert tokens.inserted({"method": "afraidoor"}) is None


def test_rows_with_a_noise_token_are_counted_apart(run: dict[str, Any]) -> None:
    study, paths = study_and_inputs(run, "ablation", "noise")
    victim_noise = noise.noises(study, paths)[VICTIM]
    assert victim_noise.tokens == ("noisy",)
    # of ten rows the first four hold it; the undefended victim misses one, without anchoring all four are missed
    assert victim_noise.counts["none"] == ((9, 10), (3, 4))
    assert victim_noise.counts["elibadcode"] == ((8, 10), (2, 4))
    assert victim_noise.counts["no_anchoring"] == ((6, 10), (0, 4))


def test_a_run_in_which_every_piece_counts_still_has_its_figure(run: dict[str, Any], tmp_path: Path) -> None:
    eliminations = {name: {**elimination, "beta": 0.0} for name, elimination in run["eliminations"].items()}
    config = {**run, "eliminations": eliminations}
    study, paths = study_and_inputs(config, "ablation", "noise")
    victim_noise = noise.noises(study, paths)[VICTIM]
    assert victim_noise.tokens == ()
    assert victim_noise.counts["elibadcode"] == ((8, 10), (0, 0))
    stage.figure(config, "ablation", "noise", paths, tmp_path)
    assert (tmp_path / "ablation_noise.png").stat().st_size


def test_histograms_and_their_share(run: dict[str, Any]) -> None:
    (path,) = study_and_inputs(run, "ablation", "identifiers")[1]
    histogram = identifiers.histogram(read_json(path)["identifier_lengths"])
    assert list(histogram) == [1, 2, 3, 5, 6, 9, 31]
    assert identifiers.share_up_to(histogram, 5) == pytest.approx(0.96)
    assert dict(captions.parameters(Study(run, "ablation"), "identifiers")).keys() == {"defects"}


def test_positions_are_ranked_by_sensitivity_without_the_first() -> None:
    def sample(*places: tuple[float, float]) -> dict[str, Any]:
        return {"positions": [{"change": change, "trigger": 1.0, "perturbation": p} for change, p in places]}

    few, many = sample((9.0, 0.9), (0.1, 0.2), (0.3, 0.6)), sample((9.0, 0.4), (0.5, 0.8), (0.2, 0.4), (0.1, 0.0))
    by_rank = position.by_rank([few, many, many])
    assert by_rank["perturbation"] == [
        (pytest.approx((0.6 + 0.8 + 0.8) / 3), 3),
        (pytest.approx((0.2 + 0.4 + 0.4) / 3), 3),
        (pytest.approx(0.0), 2),
    ]
    assert by_rank["trigger"] == [(1.0, 3), (1.0, 3), (1.0, 2)]
    # the perturbation of the longer one does not even work where it was made for
    assert position.example([many, few]) is few
