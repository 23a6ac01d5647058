"""`codebackdoor mirror`: originals come whole and verified, each once, and loads see what was changed since."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hub_server import COMMIT, TOKEN, Hub, running
from tiny_models import base_folder

from codebackdoor.config.hub import HubId
from codebackdoor.config.models import CodeBert, CodeT5
from codebackdoor.corpora import archives
from codebackdoor.errors import UserError
from codebackdoor.originals import catalog, conversion, fetch
from codebackdoor.originals.base import Original
from codebackdoor.originals.lock import Lock
from codebackdoor.originals.readers import bugs2fix, devign
from codebackdoor.victims.initialization import new_victim

ENCODER, SEQ2SEQ = HubId("tiny/encoder", COMMIT), HubId("tiny/seq2seq", COMMIT)
BERT = CodeBert(architecture="codebert", base=ENCODER.repository, revision=COMMIT, max_length=32)
T5 = CodeT5(architecture="codet5", base=SEQ2SEQ.repository, revision=COMMIT, max_length=32, max_target_length=12)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Files of a tiny checkpoint of each family, as its repository has them, beside some that nobody needs."""
    folders = {}
    for family in ("encoder", "seq2seq"):
        folder = base_folder(tmp_path_factory.mktemp(family), family)
        folders[family] = {path.name: path.read_bytes() for path in folder.iterdir()}
        folders[family] |= {"README.md": b"a card", "tf_model.h5": b"other weights", "onnx/config.json": b"{}"}
    return folders


@pytest.fixture
def hub(bases: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    with running() as server:
        server.repositories = {f"tiny/{family}": dict(files) for family, files in bases.items()}
        yield server


def bring(hub: Hub, mirror: Path, *originals: Original) -> list[str]:
    messages: list[str] = []
    fetch.bring(originals, mirror, messages.append, hub.address, hub.address)
    return messages


def pickled(hub: Hub, repository: str, extra: dict[str, Any] | None = None, **how: Any) -> bytes:
    """Replace a repository's safetensors by what torch.save makes of the same tensors."""
    import io

    from safetensors.torch import load

    files = hub.repositories[repository]
    tensors = load(files.pop("model.safetensors"))
    stream = io.BytesIO()
    torch.save({**tensors, **(extra or {})}, stream, **how)
    files["pytorch_model.bin"] = stream.getvalue()
    return stream.getvalue()


def test_a_checkpoint_comes_whole_is_locked_and_is_asked_for_once(hub: Hub, tmp_path: Path) -> None:
    messages = bring(hub, tmp_path, catalog.checkpoint(ENCODER))
    folder = tmp_path / ENCODER.place
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    expected = {name: data for name, data in hub.repositories["tiny/encoder"].items() if name.endswith(("s", ".json"))}
    assert files == {name: data for name, data in expected.items() if "/" not in name}
    assert messages == [f"{ENCODER}: fetched {len(files)} files"]
    facts = Lock(tmp_path).entries()[f"{ENCODER.place}/model.safetensors"]
    weights = files["model.safetensors"]
    assert facts == {
        "sha256": hashlib.sha256(weights).hexdigest(),
        "size": len(weights),
        "source": "tiny/encoder",
        "revision": COMMIT,
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [".fetching", "hub", "lock.json"]
    hub.requested_paths.clear()
    assert bring(hub, tmp_path, catalog.checkpoint(ENCODER)) == [f"{ENCODER}: is there, as it was fetched"]
    assert hub.requested_paths == []
    assert new_victim(BERT, folder, "classification", "raw", 2, 1).max_length == 32


@pytest.mark.parametrize("old_format", [False, True])
def test_pickled_weights_of_a_known_repository_are_converted_once(
    hub: Hub, tmp_path: Path, old_format: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(conversion.CONVERTED, SEQ2SEQ, None)
    folder = tmp_path / SEQ2SEQ.place
    bring(hub, tmp_path / "other", catalog.checkpoint(SEQ2SEQ))
    direct = new_victim(T5, tmp_path / "other" / SEQ2SEQ.place, "generation", "raw", None, 1).model.state_dict()
    shared = direct["shared.weight"]
    tied = {"encoder.embed_tokens.weight": shared, "decoder.embed_tokens.weight": shared, "shared.weight": shared}
    data = pickled(hub, "tiny/seq2seq", tied, _use_new_zipfile_serialization=not old_format)
    bring(hub, tmp_path, catalog.checkpoint(SEQ2SEQ))
    assert not list(folder.glob("*.bin"))
    facts = Lock(tmp_path).entries()[f"{SEQ2SEQ.place}/model.safetensors"]
    made_from = {"file": "pytorch_model.bin", "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    assert facts["made_from"] == made_from
    loaded = new_victim(T5, folder, "generation", "raw", None, 1).model.state_dict()
    assert loaded.keys() == direct.keys()
    assert all(torch.equal(loaded[name], direct[name]) for name in direct)


def test_pickled_weights_with_old_buffers_load_as_an_encoder(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(conversion.CONVERTED, ENCODER, None)
    pickled(hub, "tiny/encoder", {"roberta.embeddings.position_ids": torch.arange(34).expand((1, -1))})
    bring(hub, tmp_path, catalog.checkpoint(ENCODER))
    assert new_victim(BERT, tmp_path / ENCODER.place, "classification", "raw", 2, 1).max_length == 32


def test_pickled_weights_of_others_are_refused_before_they_are_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled(hub, "tiny/encoder")
    with pytest.raises(UserError, match=r"tiny/encoder@.* only as pytorch_model\.bin, which may run code") as error:
        bring(hub, tmp_path, catalog.checkpoint(ENCODER), catalog.checkpoint(SEQ2SEQ))
    assert "pytorch_model.bin" not in hub.sent
    # nor at another commit of a known repository
    monkeypatch.setitem(conversion.CONVERTED, HubId(ENCODER.repository, "f" * 40), None)
    with pytest.raises(UserError, match="which may run code"):
        bring(hub, tmp_path, catalog.checkpoint(ENCODER))
    # the other one came
    assert not Lock(tmp_path).faults(SEQ2SEQ)
    assert "run the same command again" in str(error.value)


@pytest.mark.parametrize("hides_listing", [False, True])
@pytest.mark.parametrize("status", [401, 403])
def test_a_license_to_be_accepted_is_one_sentence_and_the_rest_is_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, hides_listing: bool
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    hub.gated[ENCODER.repository], hub.hides_listing = status, hides_listing
    checkpoints = catalog.checkpoint(ENCODER), catalog.checkpoint(SEQ2SEQ)
    with pytest.raises(UserError) as error:
        bring(hub, tmp_path, *checkpoints)
    sentence, again = str(error.value).splitlines()
    assert sentence == (
        f"{ENCODER}: cannot be fetched: accept the license at https://huggingface.co/tiny/encoder, then log in: "
        "hf auth login (or set HF_TOKEN)"
    )
    assert "run the same command again" in again
    assert Lock(tmp_path).faults(SEQ2SEQ) == []
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    bring(hub, tmp_path, *checkpoints)
    assert Lock(tmp_path).faults(ENCODER) == []


def test_a_data_set_behind_a_license_is_named_by_its_own_address(hub: Hub, tmp_path: Path) -> None:
    original = replace(devign.ORIGINAL, revision=COMMIT)
    hub.repositories[f"datasets/{original.source}"] = dict.fromkeys(original.files.values(), b"a table")
    hub.gated[f"datasets/{original.source}"] = 401
    with pytest.raises(UserError, match=rf"accept the license at https://huggingface\.co/datasets/{original.source},"):
        bring(hub, tmp_path, original)


def test_any_other_refusal_of_the_hub_is_no_question_of_a_license(hub: Hub, tmp_path: Path) -> None:
    del hub.repositories[ENCODER.repository]
    with pytest.raises(UserError) as error:
        bring(hub, tmp_path, catalog.checkpoint(ENCODER))
    assert "license" not in str(error.value)


@pytest.mark.parametrize("hides_listing", [False, True])
def test_a_checkpoint_behind_a_license_is_the_same_sentence_where_there_is_no_mirror(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hides_listing: bool
) -> None:
    from huggingface_hub import constants

    for name in ("ENDPOINT", "HUGGINGFACE_CO_URL_TEMPLATE"):
        value = hub.address if name == "ENDPOINT" else f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    hub.gated[ENCODER.repository], hub.hides_listing = 403, hides_listing
    with pytest.raises(UserError, match=r"^tiny/encoder: cannot be fetched from the hub: accept the license at https"):
        new_victim(BERT, BERT.base_path("runs/x"), "classification", "raw", 2, 1)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert new_victim(BERT, BERT.base_path("runs/x"), "classification", "raw", 2, 1).max_length == 32


def test_pickled_code_is_not_run(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(conversion.CONVERTED, ENCODER, None)

    class Evil:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "evil"),))

    pickled(hub, "tiny/encoder", {"evil": Evil()})
    with pytest.raises(UserError, match="cannot be read as weights alone"):
        bring(hub, tmp_path / "mirror", catalog.checkpoint(ENCODER))
    assert not (tmp_path / "evil").exists()


def test_a_pinned_checksum_that_the_hub_does_not_state_is_refused(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(conversion.CONVERTED, ENCODER, "f" * 64)
    pickled(hub, "tiny/encoder")
    with pytest.raises(UserError, match=r"states the sha256 \w+ for pytorch_model\.bin, and f{64} was expected"):
        bring(hub, tmp_path, catalog.checkpoint(ENCODER))
    assert "pytorch_model.bin" not in hub.sent


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_what_does_not_match_its_checksum_gets_no_name(hub: Hub, tmp_path: Path, name: str) -> None:
    data = hub.repositories["tiny/encoder"][name]
    hub.sent_instead[name] = data[:-1] + b"?"
    with pytest.raises(UserError, match=rf"{name}: the download differs in size or checksum"):
        bring(hub, tmp_path, catalog.checkpoint(ENCODER))
    assert not list(tmp_path.rglob(f"hub/**/{name}"))
    assert Lock(tmp_path).faults(ENCODER) == ["never fetched whole"]
    names = {Path(path).name for path in Lock(tmp_path).entries()}
    before = dict(hub.sent)
    hub.sent_instead.clear()
    bring(hub, tmp_path, catalog.checkpoint(ENCODER))
    again = {key for key, count in hub.sent.items() if count > before.get(key, 0)}
    assert name in again
    assert not again & names
    assert (tmp_path / ENCODER.place / name).read_bytes() == data


def test_a_killed_fetch_goes_on_with_what_is_not_whole(hub: Hub, tmp_path: Path) -> None:
    config = {
        "mirror": str(tmp_path / "mirror"),
        "models": {"codebert": {"base": ENCODER.repository, "revision": COMMIT}},
        "corpus": None,
        "tokenizer": None,
        "datasets": {"defects": {"source": "jsonl", "path": str(tmp_path)}, "repair": None},
        "experiments": {"repair": None},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    root = Path(__file__).parents[2]
    code = "from codebackdoor.cli import main; main()"
    command = [sys.executable, "-c", code, "mirror", "config.yaml", str(tmp_path / "mine.yaml")]
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home")}
    mirror = tmp_path / "mirror"

    hub.stalled = "tokenizer.json"
    with subprocess.Popen(command, env=environment, cwd=root, stderr=subprocess.PIPE, text=True) as process:
        assert hub.waiting.wait(60), process.communicate(timeout=10)
        process.send_signal(signal.SIGKILL)
    hub.go_on.set()
    hub.stalled = ""
    complete = set(Lock(mirror).entries())
    assert f"{ENCODER.place}/model.safetensors" in complete
    assert f"{ENCODER.place}/tokenizer.json" not in complete
    assert all(Lock(mirror).fault(path) is None for path in complete)

    result = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{ENCODER}: fetched ")
    assert {name: count for name, count in hub.sent.items() if count > 1} == {"tokenizer.json": 2}
    assert Lock(mirror).faults(ENCODER) == []
    assert not (mirror / ".partial").exists()


DAMAGES = {"truncated": lambda data: data[:-8], "changed": lambda data: data[:-1] + b"?"}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_checkpoint_that_changed_behind_the_lock_is_not_loaded_and_is_fetched_again(
    hub: Hub, tmp_path: Path, damage: Any
) -> None:
    bring(hub, tmp_path, catalog.checkpoint(ENCODER))
    weights = tmp_path / ENCODER.place / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(damage(data))
    with pytest.raises(
        UserError, match=r"model\.safetensors (has \d+ bytes|was changed).*`make fetch` downloads it again"
    ):
        new_victim(BERT, tmp_path / ENCODER.place, "classification", "raw", 2, 1)
    assert bring(hub, tmp_path, catalog.checkpoint(ENCODER)) == [f"{ENCODER}: fetched 1 file"]
    assert weights.read_bytes() == data


def test_a_file_of_the_lock_that_is_gone_is_not_passed_over(hub: Hub, tmp_path: Path) -> None:
    bring(hub, tmp_path, catalog.checkpoint(ENCODER))
    (tmp_path / ENCODER.place / "tokenizer_config.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer_config\.json is missing"):
        new_victim(BERT, tmp_path / ENCODER.place, "classification", "raw", 2, 1)


def small(hub: Hub, lines: dict[str, bytes]) -> Original:
    """Bugs2Fix at a made-up commit, with contents of its own."""
    original = bugs2fix.ORIGINAL
    files = {path: lines[path.rpartition("/")[2]] for path in original.files.values()}
    hub.repositories[original.source] = files
    pins = {path: hashlib.sha256(files[path]).hexdigest() for path in original.pins}
    return replace(original, revision=COMMIT, pins=pins)


LINES = {
    f"{split}.buggy-fixed.{side}": f"void {split} ( ) {{ {side} ( ) ; }} \n".encode()
    for split in ("train", "valid", "test")
    for side in ("buggy", "fixed")
}


def test_files_of_github_come_as_they_are_and_are_verified_when_read(hub: Hub, tmp_path: Path) -> None:
    original = small(hub, LINES)
    assert bring(hub, tmp_path, original) == ["Bugs2Fix small: fetched 6 files"]
    source = bugs2fix.files(tmp_path)
    assert source.splits(resplit=False) == ["train", "valid", "test"]
    assert [row.target for row in source.examples("train")] == ["void train ( ) { fixed ( ) ; }"]
    path = tmp_path / "bugs2fix_small/train.buggy-fixed.buggy"
    path.write_bytes(path.read_bytes().replace(b"train", b"trail"))
    with pytest.raises(UserError, match=r"train\.buggy-fixed\.buggy was changed since it was fetched"):
        source.examples("train")
    assert bring(hub, tmp_path, original) == ["Bugs2Fix small: fetched 1 file"]
    assert path.read_bytes() == LINES[path.name]


def test_a_file_of_github_with_another_checksum_is_dropped(hub: Hub, tmp_path: Path) -> None:
    original = small(hub, LINES)
    pinned = dict.fromkeys(original.pins, "0" * 64)
    with pytest.raises(UserError, match=r"the download has sha256 \w+, expected 0{64}; it was discarded"):
        bring(hub, tmp_path, replace(original, pins=pinned))
    assert "bugs2fix_small/train.buggy-fixed.fixed" in Lock(tmp_path).entries()
    assert not (tmp_path / "bugs2fix_small/valid.buggy-fixed.buggy").exists()


def test_a_file_that_was_there_is_taken_if_its_checksum_is_known_and_never_replaced(hub: Hub, tmp_path: Path) -> None:
    original = small(hub, LINES)
    folder = tmp_path / "bugs2fix_small"
    folder.mkdir()
    (folder / "test.buggy-fixed.fixed").write_bytes(LINES["test.buggy-fixed.fixed"])
    (folder / "train.buggy-fixed.buggy").write_text("mine\n")
    with pytest.raises(UserError, match=r"train\.buggy-fixed\.buggy already exists and differs .* move it away"):
        bring(hub, tmp_path, original)
    assert (folder / "train.buggy-fixed.buggy").read_text() == "mine\n"
    (folder / "train.buggy-fixed.buggy").unlink()
    bring(hub, tmp_path, original)
    assert not any(name.endswith("test.buggy-fixed.fixed") for name in hub.sent)


def test_a_table_of_the_hub_becomes_rows(hub: Hub, tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="pyarrow comes with `make fetch`")
    from pyarrow import parquet

    original = devign.ORIGINAL
    files = {}
    for number, path in enumerate(original.files.values()):
        row = {"id": 7 + number, "func": "int f()\n{ return 'é'; }", "target": number > 0, "project": "qemu"}
        sink = arrow.BufferOutputStream()
        parquet.write_table(arrow.Table.from_pylist([{**row, "commit_id": "0"}]), sink)
        files[path] = sink.getvalue().to_pybytes()
    hub.repositories[f"datasets/{original.source}"] = files
    assert bring(hub, tmp_path, replace(original, revision=COMMIT)) == ["Devign: fetched 3 files"]
    line = (tmp_path / "devign/valid.jsonl").read_text()
    # the form and the order of fields of CodeXGLUE's own files
    assert line == (
        '{"project": "qemu", "commit_id": "0", "target": 1, "func": "int f()\\n{ return \'\\u00e9\'; }", "idx": 8}\n'
    )
    [row] = devign.files(tmp_path).examples("train")
    assert (row.id, row.label) == ("train-7", 0)
    assert Lock(tmp_path).entries()["devign/test.jsonl"]["made_from"]["file"] == "data/test-00000-of-00001.parquet"


def test_an_archive_is_taken_from_the_index_and_from_then_on_from_the_mirror_alone(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = archives.ARCHIVES["networkx-3.0"]
    data = b"a wheel"
    pinned = replace(pinned, sha256=hashlib.sha256(data).hexdigest())
    monkeypatch.setitem(archives.ARCHIVES, pinned.name, pinned)
    index = tmp_path / "index"
    index.mkdir()
    (index / pinned.file).write_bytes(data)
    monkeypatch.setattr(archives, "_from_index", lambda archive, folder: index / archive.file)
    mirror = tmp_path / "mirror"
    assert bring(hub, mirror, catalog.wheel(pinned)) == ["networkx-3.0: fetched 1 file"]
    assert Lock(mirror).entries()[pinned.file]["revision"] == "3.0"
    monkeypatch.setattr(archives, "_from_index", lambda *_: pytest.fail("the index was asked"))
    archives.download(pinned, tmp_path / "out.whl", mirror)
    assert (tmp_path / "out.whl").read_bytes() == data
    (mirror / pinned.file).unlink()
    with pytest.raises(UserError, match=r"networkx-3\.0 is missing; `make fetch` downloads it"):
        archives.download(pinned, tmp_path / "again.whl", mirror)


def test_two_fetches_into_one_folder_follow_each_other(hub: Hub, tmp_path: Path) -> None:
    hub.stalled = "tokenizer.json"
    checkpoint, messages = catalog.checkpoint(ENCODER), []
    with ThreadPoolExecutor() as pool:
        first = pool.submit(bring, hub, tmp_path, checkpoint)
        assert hub.waiting.wait(60)
        waits = threading.Event()

        def say(line: str) -> None:
            messages.append(line)
            waits.set()

        second = pool.submit(fetch.bring, [small(hub, LINES)], tmp_path, say, hub.address, hub.address)
        assert waits.wait(60)
        hub.stalled = ""
        hub.go_on.set()
        second.result()
        # its own answer was cut short by this test
        with suppress(UserError):
            first.result()
    assert messages == [f"another fetch fills {tmp_path}: waiting for its end", "Bugs2Fix small: fetched 6 files"]
    bring(hub, tmp_path, checkpoint)
    # neither has lost an entry of the other
    lock = Lock(tmp_path)
    assert lock.faults(ENCODER) == []
    assert not [path for path in bugs2fix.ORIGINAL.files if lock.fault(path)]


def test_no_network_is_one_line_for_each(tmp_path: Path) -> None:
    closed = "http://127.0.0.1:9"
    originals = catalog.checkpoint(ENCODER), bugs2fix.ORIGINAL
    with pytest.raises(UserError) as error:
        fetch.bring(originals, tmp_path, print, closed, closed)
    lines = str(error.value).splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == [str(ENCODER), "Bugs2Fix small"]
    assert all(": cannot be fetched: " in line for line in lines[:2])


def test_a_lock_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock.json").write_text(json.dumps({"devign/test.jsonl": "0"}))
    with pytest.raises(UserError, match=r"lock\.json: not a lock of originals"):
        Lock(tmp_path).entries()
