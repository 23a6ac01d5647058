"""The stages of the defenses that filter rows, edit victims or rewrite inputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from codebackdoor.commands.options import (
    CODE,
    DATASET,
    GPUS,
    HELPERS,
    MIRROR,
    SEED,
    SETTINGS,
    THREADS,
    count_rows,
    given_code,
    out_file_option,
    out_option,
    pairs_option,
    path_option,
    read_dataset,
    read_settings,
    recorded,
)
from codebackdoor.errors import UserError, quoted

if TYPE_CHECKING:
    from codebackdoor.config.methods import AnyPurification
    from codebackdoor.defenses.purification.settings import EvidenceSettings


@click.command("filter", short_help="Drop training rows that look poisoned.")
@SETTINGS
@DATASET
@path_option("--train", help="Training rows, poisoned or not.")
@path_option("--clean", help="The defender's clean samples, for calibration.")
@path_option("--victim", required=False, help="Victim trained on all of these rows, for methods that need one.")
@HELPERS
@MIRROR
@out_option("Folder of train.jsonl (the kept rows), judged.jsonl, filtering.json and provenance.json.")
@SEED
@THREADS
@GPUS
@CODE
def filter_rows(
    settings: str,
    dataset: str,
    train: Path,
    clean: Path,
    victim: Path | None,
    helpers: dict[str, Path],
    out: Path,
    seed: int,
) -> None:
    """Drop the rows of a training set that look poisoned, before a victim is trained on it."""
    method = read_settings("filtering", settings, "--settings")
    if method.reads_victim and victim is None:
        raise UserError(f"{method.method} looks at a victim: name one that was trained on these rows with --victim")
    if victim is not None and not method.reads_victim:
        raise UserError(f"{method.method} looks at no victim; leave out --victim")

    with recorded(out, {"seed": seed}, helpers):
        if victim is None:
            from codebackdoor.defenses.stages.sift import sift

            sift(method, read_dataset(dataset), train, clean, helpers, out, seed)
        else:
            from codebackdoor.defenses.stages.sift_by_victim import sift_by_victim

            sift_by_victim(method, read_dataset(dataset), victim, train, clean, helpers, out, seed)


@click.command(short_help="Edit a victim's weights to remove its backdoor.")
@SETTINGS
@DATASET
@path_option("--victim", help="Folder of the victim.")
@path_option("--clean", help="The defender's clean samples.")
@path_option(
    "--inverted",
    required=False,
    help="Folder of an earlier elimination with the same search settings on the same victim: reuse its trigger, or "
    "only its search trajectories if thresholds or the number of steps differ.",
)
@HELPERS
@MIRROR
@out_option("Folder of the edited victim, trigger.json and elimination.json.")
@SEED
@THREADS
@GPUS
@CODE
def eliminate(
    settings: str,
    dataset: str,
    victim: Path,
    clean: Path,
    inverted: Path | None,
    helpers: dict[str, Path],
    out: Path,
    seed: int,
) -> None:
    """Edit a victim's weights to remove its backdoor, if it has one."""
    method = read_settings("elimination", settings, "--settings")
    from codebackdoor.defenses.stages import eliminate as stage
    from codebackdoor.defenses.stages.job import DefenseJob

    with recorded(out, {"seed": seed}, {**helpers, "calibration": method.calibration_file}) as facts:
        job = DefenseJob(read_dataset(dataset), victim, clean, out, seed, helpers)
        facts["phases"] = stage.eliminate(method, job, given_code(), inverted)


@click.command(short_help="Calibrate a label scan on benign victims.")
@SETTINGS
@DATASET
@pairs_option("--victim", "Benign victim as SEED=FOLDER, at least five")
@path_option("--clean", help="The defender's clean samples.")
@out_file_option("JSON file of the calibration.")
@THREADS
@GPUS
@CODE
def calibrate(settings: str, dataset: str, victims: dict[str, Path], clean: Path, out: Path) -> None:
    """Run a method's label scan on benign victims; the results tell clean from backdoored victims in later scans."""
    method = read_settings("elimination", settings, "--settings")
    from codebackdoor.defenses.elimination.inversion.calibration import stage
    from codebackdoor.defenses.elimination.inversion.calibration.settings import CalibratedSettings

    if not isinstance(method, CalibratedSettings):
        raise UserError(f"--settings: {method.label} has no scan to be calibrated")
    for name in victims:
        if not name.isdecimal() or name != str(int(name)):
            raise UserError(f"--victim: {quoted(name)} is not a seed; write --victim 101=FOLDER")
    victims_by_seed = {int(seed): path for seed, path in victims.items()}
    stage.calibrate(method, read_dataset(dataset), victims_by_seed, clean, out, given_code())


@click.command(short_help="Remove triggers from test inputs, then predict.")
@SETTINGS
@DATASET
@path_option("--victim", help="Folder of the victim.")
@path_option("--valid", help="Clean validation rows, for calibration.")
@pairs_option("--input", "Test set as NAME=FILE")
@path_option("--trigger", required=False, help="trigger.json of an earlier elimination, for methods that read it.")
@path_option("--evidence", required=False, help="Folder that `suspect` wrote: use its measurements.")
@HELPERS
@MIRROR
@out_option("Folder of purified.NAME.jsonl, predictions.NAME.jsonl and provenance.json.")
@SEED
@THREADS
@GPUS
@CODE
def purify(
    settings: str,
    dataset: str,
    victim: Path,
    valid: Path,
    inputs: dict[str, Path],
    trigger: Path | None,
    evidence: Path | None,
    helpers: dict[str, Path],
    out: Path,
    seed: int,
) -> None:
    """Rewrite test inputs to remove triggers, if there are any, and predict on the result."""
    method = read_settings("purification", settings, "--settings")
    if method.reads_trigger and trigger is None:
        raise UserError(
            f"{method.method} reads an inverted trigger: name the trigger.json of an elimination with --trigger"
        )
    from codebackdoor.defenses.stages.job import DefenseJob

    job = DefenseJob(read_dataset(dataset), victim, valid, out, seed, helpers, inputs)
    if evidence is not None:
        keeping = _keeping_evidence(method)
        from codebackdoor.defenses.stages.evidence import decide

        with recorded(out, {"seed": seed, "inputs": count_rows(inputs.values())}, helpers) as facts:
            decide(keeping, job, evidence)
            facts["measured"] = _measured(evidence)
        return
    from codebackdoor.defenses.stages import purify as stage

    with recorded(out, {"seed": seed, "inputs": count_rows(inputs.values())}, helpers):
        stage.purify(method, job, trigger)


def _measured(evidence: Path) -> dict[str, object] | None:
    """Seconds and number of inputs of the job that measured the evidence; None if its folder has no record."""
    path = evidence / "provenance.json"
    if not path.is_file():
        return None
    from codebackdoor.files import read_object

    job = read_object(path)
    return {"seconds": job.get("seconds"), "inputs": job.get("inputs")}


@click.command(short_help="Measure what a purification decides by.")
@SETTINGS
@DATASET
@path_option("--victim", help="Folder of the victim.")
@path_option("--valid", help="Clean validation rows, for calibration.")
@pairs_option("--input", "Test set as NAME=FILE")
@HELPERS
@MIRROR
@out_option("Folder of evidence.NAME.jsonl, calibration.jsonl, evidence.json and provenance.json.")
@SEED
@THREADS
@GPUS
@CODE
def suspect(
    settings: str,
    dataset: str,
    victim: Path,
    valid: Path,
    inputs: dict[str, Path],
    helpers: dict[str, Path],
    out: Path,
    seed: int,
) -> None:
    """Measure how suspicious the elements of test inputs are, once for all variants of a purification."""
    method = _keeping_evidence(read_settings("purification", settings, "--settings"))
    from codebackdoor.defenses.stages import evidence
    from codebackdoor.defenses.stages.job import DefenseJob

    with recorded(out, {"seed": seed}, helpers) as facts:
        evidence.suspect(method, DefenseJob(read_dataset(dataset), victim, valid, out, seed, helpers, inputs))
        facts["inputs"] = count_rows([*inputs.values(), out / evidence.CALIBRATION])


def _keeping_evidence(settings: AnyPurification) -> EvidenceSettings:
    from codebackdoor.defenses.purification.settings import EvidenceSettings

    if not isinstance(settings, EvidenceSettings):
        raise UserError(f"{settings.method} keeps no evidence; use `codebackdoor purify` without --evidence")
    return settings


@click.command(short_help="Rewrite a test set, once for all victims.")
@SETTINGS
@DATASET
@path_option("--valid", help="Clean validation rows, for calibration.")
@path_option("--input", help="Test set, clean or triggered.")
@HELPERS
@MIRROR
@out_option("Folder of purified.jsonl and provenance.json.")
@SEED
@THREADS
@GPUS
@CODE
def rewrite(
    settings: str, dataset: str, valid: Path, input: Path, helpers: dict[str, Path], out: Path, seed: int
) -> None:
    """Rewrite a test set once for all victims, with a purification that does not read the victim."""
    method = read_settings("purification", settings, "--settings")
    if method.reads_victim:
        raise UserError(f"{method.method} reads the victim; use `codebackdoor purify` instead")
    from codebackdoor.defenses.stages import rewrite as stage

    with recorded(out, {"seed": seed, "inputs": count_rows([input])}, helpers):
        stage.rewrite(method, read_dataset(dataset), valid, input, helpers, out, seed)
