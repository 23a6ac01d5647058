"""Snakemake's records travel with a run, so that it knows the copies as it knew the originals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from snakemake.io import IOFile
from snakemake.persistence.file import FilePersistence

from codebackdoor.errors import UserError
from codebackdoor.runs import records

SHORT, LONG = Path("runs/one/a.jsonl"), Path("runs/one", *["with_a_long_name"] * 20, "b.jsonl")
AWAY = Path("runs/one/archive.whl")


@pytest.fixture
def snakemake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FilePersistence:
    """Files of one run and a file of another run, with Snakemake's own records of them."""
    monkeypatch.chdir(tmp_path)
    persistence = FilePersistence(path=tmp_path / ".snakemake")
    for path in (SHORT, LONG, AWAY, Path("runs/other/a.jsonl")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")
        write(persistence, path, "made here")
    return persistence


def write(snakemake: FilePersistence, path: Path, rule: str) -> None:
    snakemake._io_write(snakemake._metadata_path, {"rule": rule, "params": ["1"]}, str(path))


def recorded_rule(snakemake: FilePersistence, path: Path) -> str | None:
    snakemake._clear_cache()
    return snakemake.rule(IOFile(str(path)))


def test_records_of_a_run_replace_those_of_earlier_files(snakemake: FilePersistence) -> None:
    assert records.keep(Path("runs/one")) == 3
    # before the pull, there were other files with these names, one by a job that was killed, and one does not travel
    stray = Path("runs/one/stray.jsonl")
    stray.write_text("{}\n")
    AWAY.unlink()
    for path in (SHORT, LONG, AWAY, stray, Path("runs/other/a.jsonl")):
        write(snakemake, path, "made there")
    snakemake._mark_incomplete(str(SHORT), None)

    assert records.restore(Path("runs/one")) == 3
    assert [recorded_rule(snakemake, path) for path in (SHORT, LONG, AWAY)] == ["made here"] * 3
    assert recorded_rule(snakemake, stray) is None
    assert recorded_rule(snakemake, Path("runs/other/a.jsonl")) == "made there"
    snakemake._clear_cache()
    assert snakemake._filter_incomplete_keys([str(SHORT)]) == set()


def test_restored_files_are_equally_old_and_others_keep_their_times(snakemake: FilePersistence) -> None:
    outside = Path("runs/other/a.jsonl")
    before = outside.stat().st_mtime_ns
    records.keep(Path("runs/one"))
    records.restore(Path("runs/one"))
    assert {path.stat().st_mtime for path in (SHORT, LONG)} == {records.LONG_AGO}
    assert outside.stat().st_mtime_ns == before


def test_the_same_run_has_the_same_records(snakemake: FilePersistence) -> None:
    kept = Path("runs/one") / records.RECORDS
    records.keep(kept.parent)
    first = kept.read_bytes()
    assert [json.loads(line)["output"] for line in first.splitlines()] == sorted(map(str, (SHORT, AWAY, LONG)))
    records.restore(kept.parent)
    records.keep(kept.parent)
    assert kept.read_bytes() == first


def test_a_run_without_records_is_one_clear_error(snakemake: FilePersistence, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="runs/none: Snakemake has no record of a file in this folder; finish the run first"
    ):
        records.keep(Path("runs/none"))
    with pytest.raises(UserError, match=r"runs/one/records\.jsonl: no such file"):
        records.restore(Path("runs/one"))
    with pytest.raises(UserError, match="Snakemake has no record"):
        records.keep(Path("runs/one"), tmp_path / "elsewhere")


RECORD = {"rule": "evil", "params": ["1"]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"record": RECORD}, "records.jsonl:1: not a Snakemake record"),
        ({"output": 5, "record": RECORD}, "records.jsonl:1: not a Snakemake record"),
        ({"output": "runs/one/a.jsonl", "record": 1}, "records.jsonl:1: not a Snakemake record"),
        ({"output": "runs/other/a.jsonl", "record": RECORD}, "is not below runs/one"),
        ({"output": "../../x", "record": RECORD}, "is not below runs/one"),
        ({"output": "runs/one/../other/a.jsonl", "record": RECORD}, "is not below runs/one"),
        ({"output": "runs/one/a.jsonl", "record": RECORD | {"params": 5}}, "params of the record cannot be 5"),
        ({"output": "runs/one/a.jsonl", "record": RECORD | {"input": [1]}}, "input of the record cannot be"),
    ],
)
def test_a_hostile_run_changes_no_record(snakemake: FilePersistence, row: object, message: str) -> None:
    records.keep(Path("runs/one"))
    Path("runs/one/records.jsonl").write_text(json.dumps(row) + "\n")
    times = SHORT.stat().st_mtime_ns
    with pytest.raises(UserError, match=message):
        records.restore(Path("runs/one"))
    assert [recorded_rule(snakemake, path) for path in (SHORT, Path("runs/other/a.jsonl"))] == ["made here"] * 2
    assert SHORT.stat().st_mtime_ns == times
    assert not list(Path(".snakemake").glob("restored.*"))


def test_a_link_in_a_run_does_not_age_the_file_of_another(snakemake: FilePersistence) -> None:
    records.keep(Path("runs/one"))
    target = Path("runs/other/a.jsonl")
    Path("runs/one/link.jsonl").symlink_to(target.absolute())
    before = target.stat().st_mtime_ns
    records.restore(Path("runs/one"))
    assert target.stat().st_mtime_ns == before
