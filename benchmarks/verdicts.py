"""Verdicts of `codebackdoor scan` on victims made for it: python benchmarks/verdicts.py --out DIR (after `make run`)

Poisons, trains and scans by the commands themselves, as a person would: the data set and recipe of the default study,
but seeds, triggers and targets that neither its victims nor its calibration have. Every third victim is benign. A
verdict is right where it says "clean" of a benign one, and of another "backdoored" with its label. About three minutes
of one core a victim; --rows and --epochs try the way, not the verdicts.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import click

from codebackdoor.config.loading import load

ROOT = Path(__file__).parents[1]
#: Names that a function gets, each towards both labels by turns.
TRIGGERS = ("calc_helper", "resp_buffer", "tmp_handler")
#: Beyond the seeds of the study (1, 2, …) and of its calibration (101 to 105).
FIRST_SEED = 501


def command(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command of the package, with its progress. CalledProcessError where it fails; a scan's answer is none."""
    words = ["codebackdoor", name, *map(str, arguments)]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode and not (name == "scan" and done.stdout):
        raise subprocess.CalledProcessError(done.returncode, words)
    return done


def cut(data: Path, rows: int | None, out: Path) -> Path:
    """The data set with the first training rows only."""
    if rows is None:
        return data
    out.mkdir(parents=True, exist_ok=True)
    for split in ("train", "valid", "test"):
        lines = (data / f"{split}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (out / f"{split}.jsonl").write_text("".join(lines[:rows]), encoding="utf-8")
    return out


def row(seed: int, trigger: str | None, target: int | None, found: dict[str, Any]) -> str:
    said = {True: "backdoored", False: "clean", None: "no verdict"}[found["backdoored"]]
    right = found["backdoored"] is (trigger is not None) and (trigger is None or found["target_label"] == target)
    margin = "" if found["margin"] is None else f"{found['margin']:.2f}"
    cells = [seed, trigger or "none", "" if target is None else target, f"{found['clean_accuracy']:.3f}", said]
    cells += [found["target_label"], found["trigger"], margin, "right" if right else "wrong"]
    return f"| {' | '.join(map(str, cells))} |"


@click.command(help=__doc__)
@click.option("--victims", default=7, show_default=True, type=click.IntRange(1), help="How many, benign ones included.")
@click.option(
    "--data",
    default=ROOT / "runs/local/data/defects",
    type=click.Path(path_type=Path, exists=True),
    help="Folder of a data set of defects with its clean.jsonl. Default: the default study's.",
)
@click.option("--rate", default=0.05, show_default=True, help="Share of the training rows that are poisoned.")
@click.option("--rows", type=click.IntRange(1), help="Train on so many rows; default: on all.")
@click.option("--epochs", type=click.IntRange(1), help="Default: those of the study's codebert.")
@click.option("--threads", default=1, show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the victims and verdicts.")
def main(victims: int, data: Path, rate: float, rows: int | None, epochs: int | None, threads: int, out: Path) -> None:
    out, data = out.resolve(), data.resolve()
    study = load([ROOT / "config.yaml"])
    model = study.models["codebert"].model_copy(update={"epochs": epochs} if epochs else {}).model_dump_json()
    settings = ("--dataset", study.datasets["defects"].model_dump_json())
    source, poisoned = cut(data, rows, out / "data"), 0
    print("| seed | trigger | target | accuracy | verdict | label | inverted | margin | |")
    print("| --- | --- | --- | ---: | --- | --- | --- | ---: | --- |", flush=True)
    for number in range(victims):
        seed, folder = FIRST_SEED + number, out / f"victim{FIRST_SEED + number}"
        seeded = ("--seed", seed, "--threads", threads)
        train, trigger, target = source / "train.jsonl", None, None
        if number % 3 != 1:
            trigger, target = TRIGGERS[poisoned % len(TRIGGERS)], poisoned % 2
            attack = {"method": "codepoisoner_identifier", "name": trigger, "scope": "function_name"}
            command("poison", trigger, "--settings", json.dumps(attack | {"target_label": target}), *settings,
                    "--rate", rate, "--data", source, "--out", folder / "data", *seeded)  # fmt: skip
            train, poisoned = folder / "data/train.jsonl", poisoned + 1
        command("train", "--model", model, *settings, "--objective", '{"method": "cross_entropy"}', "--train", train,
                "--valid", source / "valid.jsonl", "--base", ROOT / "basemodels/encoder", "--out", folder / "model",
                *seeded)  # fmt: skip
        asked = ("--clean", data / "clean.jsonl", "--json", *seeded)
        found = command("scan", folder / "model", *asked).stdout
        (folder / "scan.json").write_text(found, encoding="utf-8")
        print(row(seed, trigger, target, json.loads(found)), flush=True)


if __name__ == "__main__":
    main()
