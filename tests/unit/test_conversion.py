"""Originals that are damaged are one clear error each, whatever their reader makes of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from codebackdoor.errors import UserError
from codebackdoor.originals.conversion import to_rows, to_safetensors

WEIGHTS = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_no_damaged_byte_of_pickled_weights_is_a_traceback(zipped: bool, tmp_path: Path) -> None:
    pickled, out = tmp_path / "pytorch_model.bin", tmp_path / "model.safetensors"
    torch.save(WEIGHTS, pickled, _use_new_zipfile_serialization=zipped)
    to_safetensors(pickled, out)
    assert {name: value.tolist() for name, value in load_file(out).items()} == {
        name: value.tolist() for name, value in WEIGHTS.items()
    }
    data = pickled.read_bytes()
    messages = []
    for offset in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[offset] ^= 0x15
        pickled.write_bytes(damaged)
        try:
            to_safetensors(pickled, out)
        except UserError as error:
            messages.append(str(error))
    assert all(message.startswith("pytorch_model.bin: ") and "\n" not in message for message in messages)
    assert len(set(re.findall(r"cannot be read as .*?: (\w+):", "\n".join(messages)))) > 2


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04"])
def test_what_is_no_checkpoint_at_all_is_one_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(UserError, match=r"^pytorch_model\.bin: cannot be read as weights alone"):
        to_safetensors(tmp_path / "pytorch_model.bin", tmp_path / "model.safetensors")


def test_trouble_of_the_disk_is_not_blamed_on_the_original(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        to_safetensors(tmp_path / "nothing.bin", tmp_path / "model.safetensors")


def test_a_damaged_table_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    tables = pytest.importorskip("pyarrow")
    path, out = tmp_path / "test.parquet", tmp_path / "test.jsonl"
    row = {"project": "p", "commit_id": "c", "target": True, "func": "f", "id": 1}
    for rows in ([row | {"target": None}], [{"project": "p"}]):
        parquet.write_table(tables.Table.from_pylist(rows), path)
        with pytest.raises(UserError, match=r"^test\.parquet: cannot be read as Devign's table"):
            to_rows(path, out)
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(UserError, match=r"^test\.parquet: cannot be read as Devign's table"):
            to_rows(path, out)
        assert not out.exists()
    parquet.write_table(tables.Table.from_pylist([row]), path)
    to_rows(path, out)
    assert json.loads(out.read_text())["target"] == 1
