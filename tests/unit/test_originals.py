"""What a configuration needs from elsewhere, and how a run without it is refused before any job."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from codebackdoor.config.datasets import DATASETS
from codebackdoor.config.hub import MIRROR_VARIABLE, HubId, hub_id, mirrored_hub_id
from codebackdoor.config.loading import load, merge, read_yaml, validate
from codebackdoor.costs import bill
from codebackdoor.dag import Dag
from codebackdoor.errors import UserError
from codebackdoor.files import sha256
from codebackdoor.originals import catalog, readers
from codebackdoor.originals.conversion import CONVERTED
from codebackdoor.originals.lock import Lock
from codebackdoor.types import SPLITS

ROOT = Path(__file__).parents[2]
LOCAL, PAPER = ROOT / "config.yaml", ROOT / "configs/paper.yaml"
COMMIT = "3b0952feddeffad0063f274080e3c23d75e7eb39"
CODEBERT = HubId("microsoft/codebert-base", COMMIT)
#: The published data sets of all tasks, and what `make fetch` brings for them.
READERS = {name for settings in DATASETS.values() for name in settings.published}
FETCHED = {name: originals for name in sorted(READERS) if (originals := catalog.published(name))}
#: The data sets that the tasks read if they name none.
DEFAULT = [original for settings in DATASETS.values() for original in catalog.published(next(iter(settings.published)))]


def paper(folder: Path) -> Dag:
    raw = merge(read_yaml(LOCAL), read_yaml(PAPER))
    return Dag(validate({**raw, "mirror": str(folder)}))


def put(folder: Path, hub: HubId, *names: str) -> None:
    for name in names:
        path = folder / hub.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        Lock(folder).record(f"{hub.place}/{name}", sha256(path))


def test_the_paper_scale_needs_its_data_sets_and_checkpoints_and_the_local_one_its_archives() -> None:
    needed = catalog.needed(load([LOCAL, PAPER]))
    assert [original.name for original in needed[:2]] == ["Devign", "Bugs2Fix small"]
    assert [original.source for original in needed[2:]] == [
        "Salesforce/codet5-base",
        "microsoft/codebert-base-mlm",
        "microsoft/codebert-base",
        "openai-community/gpt2",
    ]
    grid = catalog.needed(load([LOCAL, ROOT / "configs/elibadcode.yaml", ROOT / "configs/elibadcode/paper.yaml"]))
    hub = {"microsoft/unixcoder-base", "bigcode/starcoderbase-1b", "Salesforce/codet5-base", "microsoft/codebert-base"}
    assert hub < {original.source for original in grid}
    assert set(CONVERTED) < {HubId(original.source, original.revision) for original in [*needed, *grid]}
    archives = catalog.needed(load([LOCAL]))
    assert {original.kind for original in archives} == {"archive"}
    assert len(archives) == 10


def places(name: str, mirror: Path) -> set[str]:
    """The files that the reader of a data set reads, as paths below the mirror."""
    source = readers.load(name).files(mirror)
    return {path.relative_to(mirror).as_posix() for split in SPLITS for path in source.paths(split)}


def test_what_is_fetched_is_what_is_read_but_for_what_people_put_there_by_hand(tmp_path: Path) -> None:
    by_hand = {
        name: places(name, tmp_path) - {path for original in catalog.published(name) for path in original.files}
        for name in READERS
    }
    assert {name: missing for name, missing in by_hand.items() if missing} == {
        "bugs2fix_identifiers": {"bugs2fix_identifiers/train.jsonl"},
        "maldonado": {"technical_debt/technical_debt_dataset.csv"},
        "fakhoury": {f"code_smell/{name}.csv" for name in ("Oracle_With_Raw_SRC", "valid", "test")},
        "codesearchnet": {f"codesearchnet_python/{split}.jsonl" for split in SPLITS},
    }
    for name, originals in FETCHED.items():
        assert {path for original in originals for path in original.files} <= places(name, tmp_path)
        assert all(set(original.pins) <= set(original.files.values()) for original in originals)
    grid = load([LOCAL, ROOT / "configs/elibadcode.yaml", ROOT / "configs/elibadcode/paper.yaml"])
    needed = [original for original in catalog.needed(grid) if original.kind != "checkpoint"]
    assert [original.name for original in needed] == ["BigCloneBench", "Devign"]


def test_the_model_by_which_an_attack_crafts_is_needed_too(tmp_path: Path) -> None:
    raw = merge(read_yaml(LOCAL), read_yaml(PAPER)) | {"mirror": str(tmp_path)}
    crafting_model = {"architecture": "codebert", "base": "owner/other", "revision": COMMIT}
    grid = {"datasets": ["defects"], "models": ["codebert"], "attacks": ["adversarial"]}
    raw["models"]["other"] = crafting_model
    raw["attacks"]["adversarial"] = {"method": "afraidoor", "crafting": "other"}
    config = validate({**raw, "experiments": {"one": {"title": "t", "grid": [grid]}}})
    assert "owner/other" in {original.source for original in catalog.needed(config)}
    assert {line.name: line.jobs for line in bill.lines(config)}["craft other, defects"] == 1
    local = read_yaml(LOCAL)
    local["models"]["other"] = {"architecture": "codebert", "base": "./nowhere"}
    local["attacks"]["adversarial"] = {"method": "afraidoor", "crafting": "other"}
    with pytest.raises(UserError, match=r"models\.other\.base: nowhere is not a model folder"):
        Dag(validate({**local, "experiments": {"one": {"title": "t", "grid": [grid]}}})).check_files()


def test_the_language_model_of_a_filtering_is_needed_too() -> None:
    raw = merge(read_yaml(LOCAL), {"filterings": {"rows": {"method": "onion"}}})
    raw["helpers"]["language_model"] = f"owner/causal@{COMMIT}"
    grid = {"datasets": ["defects"], "models": ["codebert"], "attacks": ["none"]}
    for filterings, is_needed in (("none", False), ("rows", True)):
        grid["filterings"] = [filterings]
        config = validate({**raw, "experiments": {"one": {"title": "t", "grid": [grid]}}})
        assert ("owner/causal" in {original.source for original in catalog.needed(config)}) == is_needed
    raw["helpers"]["language_model"] = "./nowhere"
    with pytest.raises(UserError, match=r"helpers\.language_model: nowhere is not a model folder"):
        Dag(validate({**raw, "experiments": {"one": {"title": "t", "grid": [grid]}}})).check_files()


def test_archives_are_needed_where_something_is_made_of_the_corpus_and_only_there() -> None:
    needed = catalog.needed(load([LOCAL, ROOT / "configs/real-subset.yaml"]))
    assert [(original.kind, original.name) for original in needed] == [
        ("github", "BigCloneBench"),
        ("parquet", "Devign"),
        ("github", "Bugs2Fix small"),
    ]
    raw = merge(read_yaml(LOCAL), read_yaml(ROOT / "configs/real-subset.yaml"))
    raw = merge(raw, {"helpers": {"infiller": f"{raw['out']}/models/base/encoder"}})
    assert "archive" in [original.kind for original in catalog.needed(validate(raw))]


def test_a_study_needs_the_original_that_its_data_set_names() -> None:
    raw = merge(read_yaml(LOCAL), read_yaml(ROOT / "configs/real-subset.yaml"))
    raw["datasets"]["clones"] |= {"original": "bigclonebench_codepurify"}
    raw["datasets"]["repair"] |= {"original": "bugs2fix_identifiers"}
    needed = {original.name: set(original.files) for original in catalog.needed(validate(raw))}
    assert needed["CodePurify's pairs of BigCloneBench"] == {f"bigclonebench/new_{split}.txt" for split in SPLITS}
    assert needed["BigCloneBench, functions"] == {"bigclonebench/data.jsonl"}
    assert needed["Bugs2Fix small with real identifiers"] == {
        f"bugs2fix_identifiers/{split}.jsonl" for split in ("valid", "test")
    }
    assert not {"BigCloneBench", "Bugs2Fix small"} & needed.keys()


def test_a_data_set_runs_the_code_of_the_reader_that_it_names() -> None:
    raw = merge(read_yaml(LOCAL), read_yaml(ROOT / "configs/real-subset.yaml"))
    code = Dag(validate(raw)).parameters.code("dataset", dataset="repair")
    settings = Dag(validate(raw)).parameters.settings("dataset", "repair")
    assert "original" not in settings
    raw["datasets"]["repair"] |= {"original": "bugs2fix"}
    assert Dag(validate(raw)).parameters.code("dataset", dataset="repair") == code
    raw["datasets"]["repair"] |= {"original": "bugs2fix_identifiers"}
    named = Dag(validate(raw)).parameters
    assert named.code("dataset", dataset="repair") != code
    assert '"original": "bugs2fix_identifiers"' in named.settings("dataset", "repair")


def test_everything_that_is_missing_is_listed_at_once_with_the_command(tmp_path: Path) -> None:
    put(tmp_path, CODEBERT, "model.safetensors", "tokenizer.json", "config.json")
    (tmp_path / CODEBERT.place / "model.safetensors").write_text("half")
    with pytest.raises(UserError) as error:
        paper(tmp_path).check_files([LOCAL, PAPER])
    *lines, last = str(error.value).splitlines()
    parts = (
        "devign: missing train.jsonl, valid.jsonl, test.jsonl",
        "bugs2fix_small: missing train.buggy-fixed.buggy, train.buggy-fixed.fixed",
        "Salesforce/codet5-base/4078456db09ba972a3532827a0b5df4da172323c: never fetched whole",
        "microsoft/codebert-base-mlm/71b41964e82666ecdb8c72b11d8a02395e6fcda5: never fetched whole",
        f"microsoft/codebert-base/{COMMIT}: model.safetensors has 4 bytes, and had 17 when it was fetched",
        "openai-community/gpt2/607a30d783dfa663caf39e06633721c8d4cfcd7e: never fetched whole",
    )
    assert all(part in line for part, line in zip(parts, lines, strict=True))
    command = f"`{catalog.command([LOCAL, PAPER], str(tmp_path))}`"
    assert last == f"{command} downloads what is missing; if you have the files in another folder, set MIRROR=FOLDER"


def test_what_people_put_into_the_mirror_is_not_offered_for_download(tmp_path: Path) -> None:
    overlay = merge(read_yaml(ROOT / "configs/dece.yaml"), read_yaml(ROOT / "configs/dece/real.yaml"))
    raw = {**merge(read_yaml(LOCAL), overlay), "mirror": str(tmp_path)}
    with pytest.raises(UserError) as error:
        Dag(validate(raw)).check_files([LOCAL])
    debt, smells, lyra, command = str(error.value).splitlines()
    hint = "(docs/configuration.md names the source)"
    assert debt.endswith(f"technical_debt: missing technical_debt_dataset.csv; put it there {hint}")
    # the rows of one file are enough, because the data set is split again
    assert smells.endswith(f"put at least one of them there {hint}")
    assert lyra.endswith("test.lyra.csv; put them there")
    assert "downloads what is missing" in command


def test_a_training_split_that_nothing_downloads_is_not_offered_either(tmp_path: Path) -> None:
    raw = read_yaml(LOCAL) | {"mirror": str(tmp_path), "corpus": None}
    raw["datasets"]["repair"] = {"task": "code_repair", "source": "mirror", "original": "bugs2fix_identifiers"}
    raw["datasets"]["repair"] |= {"language": "java"}
    raw["experiments"] = {"repair": raw["experiments"]["repair"] | {"paper": []}}
    for name in ("valid", "test"):
        path = tmp_path / f"bugs2fix_identifiers/{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    with pytest.raises(UserError) as error:
        Dag(validate(raw)).check_files([LOCAL])
    assert "downloads what is missing" not in str(error.value)
    assert "train.jsonl; put it there, or write `resplit: true`" in str(error.value)


def test_missing_archives_are_listed_where_a_mirror_is_set_and_this_run_has_not_fetched_them(tmp_path: Path) -> None:
    raw = {**read_yaml(LOCAL), "mirror": str(tmp_path / "mirror"), "out": str(tmp_path / "out")}
    fetched = tmp_path / "out/corpus/archives/networkx-3.0.whl"
    fetched.parent.mkdir(parents=True)
    fetched.touch()
    with pytest.raises(UserError) as error:
        Dag(validate(raw)).check_files()
    assert len(str(error.value).splitlines()) == 9 + 1
    assert "networkx-3.4.2-py3-none-any.whl is missing" in str(error.value)
    assert "networkx-3.0-" not in str(error.value)


def test_data_that_was_put_there_by_hand_needs_no_lock(tmp_path: Path) -> None:
    raw = merge(read_yaml(LOCAL), read_yaml(ROOT / "configs/real-subset.yaml")) | {"mirror": str(tmp_path)}
    paths = [path for original in DEFAULT for path in original.files if "/test." in path]
    for path in (*paths, "bigclonebench/data.jsonl", "codesearchnet_python/test.jsonl"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("{}\n")
    Dag(validate(raw)).check_files()


@pytest.mark.parametrize(
    ("configs", "command"),
    [
        (["config.yaml"], "make fetch SCALE=local MIRROR=/m"),
        ([LOCAL, PAPER], "make fetch SCALE=paper MIRROR=/m"),
        (["configs/smoke.yaml"], "make fetch CONFIG=configs/smoke.yaml MIRROR=/m"),
        (["a.yaml", "b.yaml"], "make fetch CONFIG='a.yaml b.yaml' MIRROR=/m"),
    ],
)
def test_the_command_names_the_configuration(configs: list[str], command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert catalog.command(configs, "/m") == command


def test_rules_know_hub_ids_and_no_folder_of_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wildcards = SimpleNamespace(
        model="codebert", dataset="defects", attack="none", filtering="none", objective="cross_entropy"
    )
    put(tmp_path, CODEBERT, "model.safetensors", "config.json")
    dag = paper(tmp_path)
    helper = ["--helper", "language_model=openai-community/gpt2@607a30d783dfa663caf39e06633721c8d4cfcd7e"]
    monkeypatch.setenv(MIRROR_VARIABLE, "elsewhere")
    dag.export_mirror()
    assert os.environ[MIRROR_VARIABLE] == str(tmp_path)
    assert dag.files.base(wildcards.model, wildcards.dataset) == str(CODEBERT)
    assert "base" not in dag.train.train.inputs(wildcards)
    assert dag.parameters.helpers("purification", "onion") == helper
    raw = {**merge(read_yaml(LOCAL), read_yaml(PAPER)), "mirror": None}
    dag = Dag(validate({**raw, "datasets": read_yaml(LOCAL)["datasets"], "corpus": read_yaml(LOCAL)["corpus"]}))
    assert dag.files.base(wildcards.model, wildcards.dataset) == str(CODEBERT)
    assert "base" not in dag.train.train.inputs(wildcards)
    assert dag.parameters.helpers("purification", "onion") == helper
    dag.check_files()
    dag.export_mirror()
    assert not os.environ[MIRROR_VARIABLE]


def test_a_data_set_of_a_mirror_is_made_anew_for_its_bytes_and_not_for_its_place(tmp_path: Path) -> None:
    raw, wildcards = merge(read_yaml(LOCAL), read_yaml(ROOT / "configs/real-subset.yaml")), SimpleNamespace()
    inputs = []
    for name, text in (("one", "a"), ("two", "a"), ("three", "b"), ("fetched", "b")):
        folder = tmp_path / name
        for path in (path for original in DEFAULT for path in original.files if "/test." in path):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
            if name == "fetched":
                Lock(folder).record(path, sha256(folder / path))
        dag = Dag(validate(raw | {"mirror": str(folder)}))
        wildcards.dataset = "repair"
        assert str(folder) not in str([dag.data.dataset.inputs(wildcards), dag.data.dataset.options(wildcards)])
        inputs.append(dag.files.checksums(wildcards.dataset))
    assert inputs[0] == inputs[1] != inputs[2] == inputs[3]
    assert [line.partition("=")[0] for line in inputs[0]] == ["test.buggy-fixed.buggy", "test.buggy-fixed.fixed"]


def test_a_hub_id_has_a_whole_commit() -> None:
    assert hub_id(str(CODEBERT)) == CODEBERT
    assert mirrored_hub_id(f"/any/where/{CODEBERT.place}") == mirrored_hub_id(CODEBERT.place) == CODEBERT
    for malformed in (CODEBERT.repository, f"{CODEBERT.repository}@main", f"../up@{COMMIT}", f"a/b/c@{COMMIT}"):
        assert hub_id(malformed) is None
    raw = read_yaml(LOCAL)
    with pytest.raises(UserError, match=r"helpers\.infiller: .*@main: write a hub checkpoint as owner/name@"):
        validate({**raw, "helpers": {**raw["helpers"], "infiller": "microsoft/codebert-base-mlm@main"}})
