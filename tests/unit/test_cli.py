"""The command line starts at once, teaches, and answers a mistake with one message."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from codebackdoor import files
from codebackdoor.cli import main
from codebackdoor.config.loading import load, read_yaml, validate
from codebackdoor.costs import local
from codebackdoor.errors import UserError

DRY_RUN = """Building DAG of jobs...
Job stats:
job                       count
----------------------  -------
score                        25
predict                      10
predict_benign_defects        3
all                           1
total                        39
"""
ROOT = Path(__file__).parents[2]


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=stdin)


def test_help_loads_no_library_but_click() -> None:
    code = (
        "import sys\nfrom codebackdoor.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & "
        "{'torch', 'numpy', 'pydantic', 'yaml', 'transformers', 'tree_sitter', 'matplotlib'}), file=sys.stderr)"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "make run" in completed.stdout
    assert completed.stderr.strip() == ""


def test_the_first_help_fits_a_terminal_and_shows_what_people_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = run("--help").output
    assert max(map(len, text.splitlines())) <= 80
    guide, commands = text.split("Commands:")
    assert "make run" in guide
    # click marks what it cuts
    assert "..." not in commands
    command_names = [line.split()[0] for line in commands.splitlines() if line]
    assert {"scan", "clean", "check", "describe", "plan", "compare"} <= set(command_names)
    assert not {"train", "poison", "score", "keep-records"} & set(command_names)


def test_the_page_on_the_architecture_has_every_command_that_help_leaves_out() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    command_list = run("--help").output.split("Commands:")[1]
    for name, command in main.commands.items():
        assert (
            f"  {name} " in command_list or f"| `{name}` | {command.get_short_help_str(200).rstrip('.')} |" in page
        ), name


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_and_option_is_explained(name: str) -> None:
    command = main.commands[name]
    assert command.help
    assert run(name, "--help").exit_code == 0
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.name}"


@pytest.mark.parametrize(
    ("name", "owner"),
    [("dataset", "data set"), ("poison", "attack"), ("pretrain", "pretraining"), ("purify", "method")],
)
def test_help_says_whose_settings_are_meant(name: str, owner: str) -> None:
    settings = next(option for option in main.commands[name].params if option.name == "settings")
    assert isinstance(settings, click.Option)
    assert settings.help == f"Settings of the {owner}, as JSON."


def test_a_mistake_of_the_user_is_one_message_and_no_traceback(tmp_path: Path) -> None:
    result = run("check", str(tmp_path / "none.yaml"))
    assert result.exit_code == 2
    assert result.stderr == f"error: {tmp_path}/none.yaml: no such file\n"


def test_wrong_settings_are_named_before_any_work(tmp_path: Path) -> None:
    attack, dataset = {"method": "codepoisoner_deadcode", "varant": "block"}, {"task": "defect_detection"}
    options = ["--settings", json.dumps(attack), "--dataset", json.dumps(dataset), "--rate", "0.05", "--seed", "1"]
    result = run("poison", "mine", *options, "--data", str(tmp_path), "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert result.stderr == "error: attacks.mine: unknown key varant; did you mean variant?\n"
    assert not (tmp_path / "out").exists()


RESULTS = "runs/x/results/defects/codebert/none-0/seed1/none/cross_entropy/none/none"
STUDY = json.dumps({"experiments": {"defects": {}}})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["table", "defects", "--settings", "{bad", "README.md"],
            "--settings: not JSON (Expecting property name enclosed in double quotes at character 2)",
        ),
        (["table", "defecs", "--settings", STUDY, "README.md"], "--settings: no experiment 'defecs'; did you mean"),
        (["listing", "defects", "overview", "--settings", "[]", "README.md"], "--settings: no experiment 'defects'\n"),
        (["figure", "defects", "defenses", "--settings", "{", "README.md"], "--settings: not JSON"),
        (["table", "defects", "--settings", STUDY, "README.md"], "README.md: not in the folder of a scenario"),
        (["collect", "seed1/none/none/none/none/metrics.json"], "metrics.json: not in the folder of a scenario"),
        (["collect", f"{RESULTS}/metrics.json"], "metrics.json: not a metrics.json of a scenario\n"),
        (
            ["score", "--dataset", '{"task": "defect_detection"}', "--predictions", ".", "--seed", "1"],
            "score: name the clean test set with --reference clean=FILE\n",
        ),
    ],
    ids=["json", "experiment", "list", "brace", "readme", "short", "empty", "score"],
)
def test_results_that_are_none_are_one_message(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("# none\n")
    (tmp_path / RESULTS).mkdir(parents=True)
    (tmp_path / RESULTS / "metrics.json").write_text("{}")
    result = run(*arguments, "--out", "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1


def test_pairs_are_names_and_paths() -> None:
    result = run("predict", "--victim", "x", "--input", "clean", "--out", "y", "--seed", "1")
    assert result.exit_code == 2
    assert "expected NAME=PATH" in result.stderr
    result = run("predict", "--victim", "x", "--input", "clean=a", "--input", "clean=b", "--out", "y", "--seed", "1")
    assert result.exit_code == 2
    assert "'clean' occurs twice" in result.stderr
    result = run("predict", "--victim", "x", "--input", "=a", "--out", "y", "--seed", "1")
    assert "expected NAME=PATH, not '=a'" in result.stderr


def test_a_vocabulary_has_room_for_all_bytes(tmp_path: Path) -> None:
    result = run("tokenizer", "--corpus", "x", "--size", "300", "--out", str(tmp_path / "tokenizer.json"))
    assert result.exit_code == 2
    assert "300 is not in the range x>=301" in result.stderr


def test_a_benign_victim_is_named_after_its_seed(tmp_path: Path) -> None:
    words = ("--settings", '{"method": "elibadcode"}', "--dataset", '{"task": "defect_detection"}')
    result = run("calibrate", *words, "--victim", "x=a", "--clean", "b", "--out", str(tmp_path / "c.json"))
    assert (result.exit_code, result.stderr) == (2, "error: --victim: 'x' is not a seed; write --victim 101=FOLDER\n")


def test_threads_are_set_before_libraries_are_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "9")
    run("dataset", "mine", "--threads", "3", "--settings", "{}", "--out", str(tmp_path), "--seed", "1")
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"


def test_the_pinned_archives_are_listed() -> None:
    lines = run("fetch", "--list").output.splitlines()
    assert any(line.startswith("sympy-1.12 ") and "BSD-3-Clause" in line for line in lines)
    assert run("fetch").exit_code == 2


def test_a_plan_adds_up() -> None:
    text = run("plan", stdin=DRY_RUN).output
    rows = {line.split()[0]: line.split()[1] for line in text.splitlines() if line and line[0].islower()}
    assert rows == {"rule": "jobs", "score": "25", "predict": "13", "total": "38"}
    assert "minutes" in text


@pytest.mark.parametrize(
    ("out", "place", "end"), [("runs/a", "runs/a", ""), ("my runs/logs", "'my runs/logs", "'")], ids=["plain", "quoted"]
)
def test_a_plan_knows_what_a_job_of_a_kind_costs(
    monkeypatch: pytest.MonkeyPatch, out: str, place: str, end: str
) -> None:
    costs = {
        "train": local.RuleCost(60, 1, {"defect_detection codebert": 600}),
        "eliminate": local.RuleCost(
            60,
            2,
            {
                "defect_detection codebert elibadcode": 1200,
                "defect_detection codebert elibadcode taken over": 240,
                "defect_detection codebert elibadcode in rounds taken over": 600,
            },
        ),
        "purify": local.RuleCost(60, 2, {"defect_detection codebert codepurify": 180}),
        "predict": local.RuleCost(60, 2, {"defect_detection codebert": 30}),
        "craft": local.RuleCost(60, 2),
    }
    monkeypatch.setattr(local, "_measured", lambda: (costs, local.RuleCost(60, 1000)))
    monkeypatch.setattr(local, "_measured_amounts", dict)
    stats = "job count\n--- ---\ntrain 3\neliminate 5\npurify_benign 1\npredict 1\n"
    stats += "predict_benign_defects 1\ncraft 1\nother 1\ntotal 13\n"
    logs = [
        "train/defects/codebert/none-0/seed1/none/cross_entropy/none",
        "train/defects/codebert/none-0/seed2/none/cross_entropy/none",
        # of no kind that was measured
        "train/repair/codet5/none-0/seed1/none/cross_entropy/none",
        "eliminate/defects/codebert/none-0/seed1/none/cross_entropy/elibadcode",
        "eliminate/defects/codebert/none-0/seed1/none/cross_entropy/fine_tuning",
        "eliminate/defects/codebert/none-0/seed1/none/cross_entropy/no_longer_declared",
        "purify/defects/codebert/none-0/seed1/none/cross_entropy/none/codepurify",
        "predict/defects/codebert/none-0/seed1/none/cross_entropy/elibadcode",
        "predict/defects/codebert/codepoisoner_func-0.05/seed1/none/cross_entropy/none",
        "craft/defects/codebert",
    ]
    commands = "".join(f"Shell command: codebackdoor do > {place}/logs/{log}.log{end} 2>&1\n" for log in logs)
    reusing_log = "eliminate/defects/codebert/codepoisoner_func-0.05/seed1/none/cross_entropy/elibadcode"
    for log in (reusing_log, f"{reusing_log}_extended"):
        commands += f"Shell command: codebackdoor do --inverted=FOLDER --out OUT > {place}/logs/{log}.log{end} 2>&1\n"
    config = load([Path(__file__).parents[2] / "config.yaml"]).model_copy(update={"out": out})

    def minutes(text: str) -> dict[str, str]:
        return {line.split()[0]: line.split()[2] for line in text.splitlines()[1:] if line and line[0].islower()}

    # Snakemake says the whole twice in a long dry run
    plan = minutes(local.plan(stats + commands + commands + stats, config))
    cheap = {"craft": "1.0", "other": "?"}
    assert plan == {"train": "21.0", "eliminate": "36.0", "purify": "3.0", "predict": "1.0", **cheap, "total": "62.0"}
    text = local.plan(stats, config)
    # what has no price is named, and so is what the jobs are for
    assert "?: never timed, and not in the total: other.\n" in text
    assert "Experiments:\n  defects           Defect detection, defenses against two attacks\n" in text
    plan = minutes(text)
    assert plan == {"train": "3.0", "eliminate": "5.0", "purify": "1.0", "predict": "2.0", **cheap, "total": "12.0"}


def test_a_method_that_was_never_timed_is_a_question_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {
        "poison": local.RuleCost(60, 1, methods=("codepoisoner_identifier",)),
        "train": local.RuleCost(60, 1, methods=("cross_entropy",)),
        "purify": local.RuleCost(60, 2, methods=("attdef",)),
    }
    monkeypatch.setattr(local, "_measured", lambda: (costs, local.RuleCost(60, 1000)))
    logs = [
        "poison/defects/codepoisoner_func-0.05/seed1",
        "poison/defects/codepoisoner_deadcode-0.05/seed1",
        "train/defects/codebert/none-0/seed1/none/cross_entropy/none",
        "train/repair/codet5/none-0/seed1/none/dece/none",
        "purify/defects/codebert/none-0/seed1/none/cross_entropy/none/codepurify",
    ]
    config = load([Path(__file__).parents[2] / "config.yaml"])
    commands = "".join(f"Shell command: codebackdoor do > {config.out}/logs/{log}.log 2>&1\n" for log in logs)
    text = local.plan("poison 2\ntrain 2\npurify 1\ntotal 5\n" + commands, config)
    rows = [line.split() for line in text.splitlines() if line and line[0].islower()]
    assert rows[1:] == [
        ["poison", "1", "1.0", "1"],
        ["poison", "codepoisoner_deadcode", "1", "?", "?"],
        ["train", "1", "1.0", "1"],
        ["train", "dece", "1", "?", "?"],
        ["purify", "codepurify", "1", "?", "?"],
        ["total", "5", "2.0", "2"],
    ]
    unknown = "poison codepoisoner_deadcode, train dece, purify codepurify"
    assert f"?: never timed, and not in the total: {unknown}.\n" in text


def test_every_method_of_the_shipped_studies_was_timed() -> None:
    costs, _ = local._measured()
    root = Path(__file__).parents[2]
    config = load(
        [root / "config.yaml", root / "configs/elibadcode.yaml", root / "configs/elibadcode/onion_filter.yaml"]
    )
    other_configs = [load([root / "config.yaml", root / f"configs/{name}.yaml"]) for name in ("codepurify", "dece")]
    for rules, section in (
        (("poison",), "attacks"),
        (("filter",), "filterings"),
        (("train",), "objectives"),
        (("eliminate",), "eliminations"),
        (("rewrite", "purify"), "purifications"),
    ):
        timed = {method for rule in rules for method in costs[rule].methods or ()}
        of_elibadcode = {variant.method for variant in getattr(config, section).values()}
        of_others = {variant.method for study in other_configs for variant in getattr(study, section).values()}
        assert of_elibadcode <= timed <= of_elibadcode | of_others


def test_jobs_of_elibadcodes_grid_have_prices_of_their_kind() -> None:
    costs, _ = local._measured()
    assert {"defect_detection codebert", "code_search codet5"} <= set(costs["train"].kinds)
    # a first scan that is taken over, and those after it
    assert "defect_detection codebert elibadcode in rounds taken over" in costs["eliminate"].kinds
    assert "clone_detection unixcoder elibadcode" in costs["eliminate"].kinds
    assert "defect_detection codebert attdef" in costs["purify"].kinds
    assert costs["filter"].seconds > costs["rewrite"].seconds


def test_a_filter_is_priced_by_its_method_and_a_base_model_by_its_family() -> None:
    config = load([ROOT / "config.yaml", ROOT / "configs/cross.yaml"])

    def filtering(dataset: str, name: str) -> float:
        path = f"{dataset}/codepoisoner_func-0.05/seed1/filtered/{name}/codebert"
        seconds = local.job_seconds("filter_by_victim", path, False, config)
        assert seconds is not None
        return seconds

    # BKI reads every row once for each of its words
    assert filtering("defects", "bki") > 10 * filtering("defects", "spectral_signature")
    assert filtering("defects", "bki") > filtering("clones", "bki")
    english = local.job_seconds("pretrain", "english", False, config)
    encoder = local.job_seconds("pretrain", "encoder", False, load([ROOT / "config.yaml"]))
    assert english is not None
    assert encoder is not None
    assert english < encoder


def test_a_plan_for_nothing() -> None:
    assert run("plan", stdin="Nothing to be done (all requested files are present and up to date).").exit_code == 0
    assert run("plan", stdin="").exit_code == 2


def test_text_that_is_not_utf8_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"id": "1", "language": "python", "code": "x = 1"}\n{"id": "2", "code": "\xff"}\n')
    with pytest.raises(UserError, match="not UTF-8"):
        files.read_examples(path)
    with pytest.raises(UserError, match=r"rows\.jsonl:2: not UTF-8"):
        files.read_json(path)


def test_an_objective_is_not_stopped_like_itself() -> None:
    raw = read_yaml(Path(__file__).parents[2] / "config.yaml")
    raw["objectives"]["cross_entropy_stopped"]["stop_like"] = "cross_entropy_stopped"
    with pytest.raises(UserError, match="must train by itself"):
        validate(raw)


def test_what_a_stage_reports_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*_: object) -> None:
        logging.getLogger("codebackdoor.victims.training").info("epoch %d", 3)

    monkeypatch.setattr("codebackdoor.costs.local.plan", work)
    for _ in range(2):
        result = CliRunner().invoke(main, ["plan"], input="")
        assert result.stderr == "epoch 3\n"


def test_check_warns_of_results_that_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codebackdoor.report.doubts.doubts", lambda study: [f"{study.name} says nothing."])
    result = run("check", str(ROOT / "config.yaml"))
    assert result.exit_code == 0
    warning = "Warning, from the results in runs/local:"
    assert result.output.splitlines()[:2] == [f"{warning} {name} says nothing." for name in ("defects", "repair")]


def test_check_lists_files_and_rows_together(tmp_path: Path) -> None:
    mine = {
        "tokenizer": "nowhere.json",
        "datasets": {"few": {"task": "defect_detection", "source": "jsonl", "path": str(tmp_path)}},
    }
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.jsonl").write_text("[]\n")
    (tmp_path / "mine.yaml").write_text(json.dumps(mine))
    result = run("check", str(ROOT / "config.yaml"), str(tmp_path / "mine.yaml"))
    assert result.exit_code == 2
    assert "tokenizer: nowhere.json: no such file" in result.output
    assert f"{tmp_path}/train.jsonl:1: expected an object" in result.output


def test_describe_names_a_variant_that_is_not_there() -> None:
    assert "defect_detection" in run("describe").output
    assert "task: defect_detection" in run("describe", "defects", str(ROOT / "config.yaml")).output
    result = run("describe", "defect", str(ROOT / "config.yaml"))
    assert result.exit_code == 2
    assert "did you mean 'defects'?" in result.output
    assert "lr: 0.0005" in run("describe", "all").output


def test_a_plan_scales_prices_with_rows_and_epochs(tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    for split in ("train", "valid", "test"):
        (rows / f"{split}.jsonl").write_text("{}\n" * 200)
    mine = {
        "datasets": {"few": {"task": "defect_detection", "source": "jsonl", "path": str(rows)}},
        "models": {"short": {"architecture": "codebert", "epochs": 1}},
    }
    (tmp_path / "mine.yaml").write_text(json.dumps(mine))
    config = load([ROOT / "config.yaml", tmp_path / "mine.yaml"])
    train = "{}/none-0/seed1/none/cross_entropy/none"
    full_seconds = local.job_seconds("train", train.format("defects/codebert"), False, config)
    assert full_seconds == local._measured()[0]["train"].kinds["defect_detection codebert"]
    # 200 rows of 12 000, one epoch of three; what a job takes to start stays
    few = local.job_seconds("train", train.format("few/short"), False, config)
    assert few == pytest.approx(4 + (full_seconds - 4) / 180)
    assert (
        local.job_seconds("dataset", "few", False, config) < 5 < local.job_seconds("dataset", "defects", False, config)
    )
    assert local.job_seconds("eliminate", train.format("few/short"), False, config) is not None
    assert local.job_seconds("probe", train.format("few/short"), False, config) is None
