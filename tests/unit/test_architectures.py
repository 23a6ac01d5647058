"""The architectures of victims: which base each starts from, and what the configuration refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import ValidationError

from codebackdoor.config.base import Head, models_in, tag_of
from codebackdoor.config.experiments import scenarios
from codebackdoor.config.loading import parse, validate
from codebackdoor.config.models import AnyModel, CodeGen, CodeT5, CodeT5Plus, GraphCodeBert, StarCoder
from codebackdoor.costs import bill, paper
from codebackdoor.costs.memory import machine_megabytes
from codebackdoor.dag import Dag
from codebackdoor.errors import UserError
from codebackdoor.report.sizes import _kind
from codebackdoor.victims.families import family_of
from codebackdoor.victims.initialization import new_victim

ROOT = Path(__file__).parents[2]
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
REVISION = "0" * 40
ARCHITECTURES: dict[str, Any] = {str(tag_of(model)): model for model in models_in(AnyModel)}
#: Checkpoints of the papers by architecture; two of them are of one class.
HUB = {name: {"architecture": name, "base": f"owner/{name}", "revision": REVISION} for name in ARCHITECTURES}
HALF = {"family": "seq2seq", "steps": 1500, "max_length": 80}


def study(model: dict[str, Any], dataset: str = "repair", **more: Any) -> Dag:
    grid = {"datasets": [dataset], "models": ["mine"], "attacks": ["none"]}
    experiments = {"mine": {"title": "Mine", "grid": [grid], "dashes": more.pop("dashes", [])}}
    return Dag(validate({**DEFAULT, "models": {"mine": model}, "experiments": experiments, **more}))


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - {"codegeex"}))
def test_every_architecture_has_a_class_for_the_heads_that_it_fits(name: str) -> None:
    settings = ARCHITECTURES[name].model_validate(HUB[name])
    assert settings.base_type == settings.model_type
    for head in get_args(Head):
        cls = family_of(settings.model_type).model_class(head)
        assert cls is not None or head not in settings.works_on()
    assert settings.reads == family_of(settings.model_type).pooling or name == "unixcoder"


def test_the_small_base_of_codegen_is_of_another_class_and_its_code_is_that_of_the_base() -> None:
    small, large = CodeGen(architecture="codegen"), CodeGen.model_validate(HUB["codegen"])
    assert (small.base_type, large.base_type) == ("gpt_bigcode", "codegen")
    assert small.base_path("runs/local") == StarCoder(architecture="starcoder").base_path("runs/local")
    lengths = {"max_length": 60, "max_target_length": 60}
    recipe = small.model_copy(update=lengths)
    victim = new_victim(recipe, ROOT / small.base_path("runs/local"), "generation", "lexed", None, 1)
    assert (victim.model.config.model_type, victim.separator) == ("gpt_bigcode", "\n###\n")
    dags = [
        study({"architecture": "codegen", **lengths}),
        study({"architecture": "starcoder", **lengths}),
        study({**HUB["codegen"], **lengths}),
        study({"architecture": "codegen", "on": {"pair": {"base": "owner/codegen", "revision": REVISION}}}),
    ]
    code = [dag.parameters.code("train", model="mine") for dag in dags]
    assert code[0] == code[1]
    assert len(set(code)) == 3


def test_a_small_base_can_be_named() -> None:
    plain, half = ({"architecture": "codet5", "base": "pretrained", **more} for more in ({}, {"small_base": "half"}))
    pretraining = {**DEFAULT["pretraining"], "half": HALF}
    dag = study(half, pretraining=pretraining)
    dag.check_files()
    folder = "runs/local/models/base/half"
    assert dag.train.base(wildcards := _Wildcards()).options == ("--base", folder)
    assert f"{folder}/model.safetensors" in dag.train.base(wildcards).files
    assert study(plain, pretraining=pretraining).files.base("mine", "repair") == "runs/local/models/base/seq2seq"
    assert f"{folder}/config.json" in dag.train.base_models()
    assert '"steps": 1500' in dag.parameters.pretraining("half")
    # models that name none keep their parameters
    assert "small_base" not in CodeT5(architecture="codet5").model_dump()
    shipped = CodeT5Plus(architecture="codet5p", small_base="other")
    assert shipped.base_path("runs/local") == Path("basemodels/other")
    with pytest.raises(UserError, match=r"models\.mine\.base: basemodels/other is not a model folder"):
        study({"architecture": "codet5p", "small_base": "other"}).check_files()
    settings = {"architecture": "codet5", "base": "pretrained"}
    assert [_kind(settings), _kind(settings | {"small_base": "half"})] == ["CodeT5-class", "CodeT5-class (base half)"]


class _Wildcards:
    model, dataset = "mine", "repair"


@pytest.mark.parametrize(
    ("model", "pretraining", "message"),
    [
        (
            {"architecture": "codet5", "base": "pretrained", "small_base": "hlaf"},
            {"half": HALF},
            "models.mine.small_base: 'hlaf' is not declared under pretraining; did you mean 'half'?",
        ),
        (
            {"architecture": "codebert", "base": "pretrained", "small_base": "half"},
            {"half": HALF},
            "models.mine.small_base: 'half' is of the family seq2seq; mine needs one of encoder",
        ),
        (
            {"architecture": "codet5"},
            {"encoder": HALF},
            "pretraining.encoder: the recipe of this name is that of the family encoder, and this one's is seq2seq; "
            "give it another name",
        ),
        (
            {**HUB["codet5"], "small_base": "half"},
            {"half": HALF},
            "models.mine: `small_base` goes with `base: shipped` or `base: pretrained`; remove it",
        ),
        (
            {"architecture": "graphcodebert"},
            {},
            "models.mine: there is no shipped base model of its own; name a hub id, a folder, or as `small_base` "
            "another base than the encoder of other models, which would make it one of them",
        ),
        (
            {"architecture": "codellama"},
            {},
            "models.mine: there is no shipped base model of type llama; name a hub id or a folder",
        ),
        (
            {"architecture": "starcoder", "pooling": "first"},
            {},
            "models.mine.pooling: a decoder's first state has read one sub-token alone; write mean, max or null",
        ),
    ],
)
def test_a_base_that_makes_no_sense_is_refused(
    model: dict[str, Any], pretraining: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        study(model, pretraining=pretraining)
    assert str(error.value).splitlines() == [message]


def test_graphcodebert_starts_from_a_base_of_its_own() -> None:
    model = {"architecture": "graphcodebert", "base": "pretrained", "small_base": "second"}
    second = {"family": "encoder", "steps": 10000, "seed": 2}
    study(model, pretraining={"second": second}).check_files()
    assert GraphCodeBert.model_validate(model).decoder_sizes == {"decoder_layers": None, "decoder_ffn_dim": None}
    with pytest.raises(ValidationError, match="no pretrained base model of its own"):
        GraphCodeBert(architecture="graphcodebert", base="pretrained")


def test_codegeex_is_a_dash_and_never_a_job() -> None:
    message = (
        "experiments.mine: model 'mine': its checkpoints need code of their own, which transformers would fetch and "
        "run, and no remote code ever runs: remove it from the grid, or list it under dashes"
    )
    for model in ({"architecture": "codegeex"}, HUB["codegeex"]):
        with pytest.raises(UserError) as error:
            study(model)
        assert str(error.value) == message
    dag = study({"architecture": "codegeex"}, dashes=[{"model": "mine", "reason": "no remote code"}])
    assert not scenarios(dag.config.experiments["mine"])
    dag.check_files()


def test_a_checkpoint_with_code_of_its_own_is_refused(tmp_path: Path) -> None:
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "config.json").write_text('{"model_type": "chatglm", "auto_map": {"AutoModel": "evil.Model"}}')
    with pytest.raises(UserError) as error:
        study({"architecture": "codellama", "base": str(tmp_path)}).check_files()
    assert str(error.value) == (
        f"models.mine.base: {tmp_path}: codellama is fine-tuned from a base of type 'llama', this one is 'chatglm', "
        "and the code that it names (auto_map) never runs"
    )


@pytest.mark.parametrize("architecture", ["codegen", "starcoder"])
def test_prompt_and_output_share_the_positions_of_the_small_decoder(architecture: str) -> None:
    def recipe(base: str, prompt: int, output: int) -> dict[str, object]:
        lengths = {"max_length": prompt, "max_target_length": output}
        return {"architecture": architecture, "base": base, "on": {"generation": lengths}}

    def refusal(base: str) -> str:
        with pytest.raises(UserError) as error:
            study(recipe(base, 64, 60)).check_files()
        return str(error.value)

    place, reason = (
        "models.mine.on.generation.max_length",
        (
            "prompt and output share the 128 positions of this model, and their separator takes 6; write max_length "
            "and max_target_length with a sum of at most 123"
        ),
    )
    assert refusal("shipped") == f"{place}: basemodels/decoder: {reason}"
    # its tokenizer is trained later
    assert refusal("pretrained") == f"{place}: runs/local/models/base/decoder: {reason}"
    for base in ("shipped", "pretrained"):
        study(recipe(base, 64, 59)).check_files()


def test_lengths_that_nobody_states_fit_the_small_decoder() -> None:
    mine = {"architecture": "codegen"}
    study(mine).check_files()
    study(mine, "defects").check_files()
    settings = study(mine | {"on": {"generation": {"max_length": 32}}}).config.victim_settings("mine", "repair")
    assert (settings.max_length, settings.max_target_length) == (32, 59)
    # what a job reads it reads as it is written
    assert parse(AnyModel, settings.model_dump_json(), "--model").for_head("generation") == settings
    # victims that classify, and those of other bases, keep theirs
    classifier = study(mine, "defects").config.victim_settings("mine", "defects")
    elsewhere = study(mine | {"base": "./mine"}).config.victim_settings("mine", "repair")
    for model in (classifier, elsewhere):
        assert (model.max_length, model.max_target_length, model.on) == (128, 128, {})


def test_jobs_of_large_checkpoints_request_their_memory() -> None:
    """Two copies of the weights, in float32 except while weights in bfloat16 are trained."""
    requests = {}
    for name in ("codebert", "codegen", "codellama", "deepseek_coder"):
        dag = study(HUB[name])
        requests[name] = dag.resources.victim["mem_mb"](_Wildcards(), 1)
        assert dag.resources.victim["gpu"](_Wildcards()) == 1
    assert requests["codebert"] == requests["codegen"] == 24000
    size = bill.sizes()["codellama generation"]
    assert requests["codellama"] == machine_megabytes(size) == round(8 * size.parameters / 1e6) + 8000 > 60000
    short = study(HUB["codellama"] | {"weights": "bfloat16", "optimizer": "badam"})
    assert short.resources.victim["mem_mb"](_Wildcards(), 1) == machine_megabytes(size)
    assert short.resources.training["mem_mb"](_Wildcards(), 1) == round(4 * size.parameters / 1e6) + 8000
    text = paper.plan(study(HUB["codellama"]).config, 24)
    assert "mine 107.8 GB (weights, gradients and AdamW's two moments in float32)" in text
    text = paper.plan(short.config, 24)
    # 2 x 6.739 + 18 x 0.202; 4 x 6.739; 2 x 6.739 + 12 x 0.202
    assert "mine 17.1 GB (weights in bfloat16, gradients and moments of one block)" in text
    assert (
        "Predictions and defenses read the weights as float32, whatever their format is in the folder: mine 27.0"
        in text
    )
    assert "Checkpoints for resuming a training take up to 15.9 GB of disk more" in text
    # the objective's adapters need less than the undefended training, which the plan states
    fitted = {"method": "moderate_fitting", "adapters": {}}
    grid = {"datasets": ["repair"], "models": ["mine"], "attacks": ["none"], "objectives": ["fitted"]}
    config = study(
        HUB["codellama"],
        objectives={**DEFAULT["objectives"], "fitted": fitted},
        experiments={"mine": {"title": "Mine", "grid": [grid]}},
    ).config
    assert "mine 107.8 GB" in paper.plan(config, 24)
    adapted = study(HUB["codellama"] | {"adapters": {}}).config
    assert "mine 31.3 GB (weights in float32, adapters of rank 8 with AdamW)" in paper.plan(adapted, 24)
    assert "108" not in paper.plan(study(HUB["codebert"]).config, 24)
