"""The sources of local code: pinned wheels of a package index, verified by checksum and read in memory.

An archive is never installed and nothing in it is executed. The requested file does not depend on the machine: platform
and Python version are part of the request.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from codebackdoor.errors import UserError, nearest
from codebackdoor.files import atomic, read_bytes


@dataclass(frozen=True, slots=True)
class Archive:
    """One pinned distribution: the index's project name, version, file name, SHA-256 and SPDX license."""

    package: str
    version: str
    file: str
    sha256: str
    license: str

    @property
    def name(self) -> str:
        return f"{self.package}-{self.version}"


_LINUX = "manylinux_2_17_x86_64.manylinux2014_x86_64.whl"

ARCHIVES: dict[str, Archive] = {
    archive.name: archive
    for archive in (
        Archive(
            "ansible-core",
            "2.18.1",
            "ansible_core-2.18.1-py3-none-any.whl",
            "4a312e416e09c7271188d6b8e2b1062fc6834fefd6a1814d0e02fb8aadb3e1ba",
            "GPL-3.0-or-later",
        ),
        Archive(
            "django",
            "4.2.16",
            "Django-4.2.16-py3-none-any.whl",
            "1ddc333a16fc139fd253035a1606bb24261951bbc3a6ca256717fa06cc41a898",
            "BSD-3-Clause",
        ),
        Archive(
            "django",
            "5.1.4",
            "Django-5.1.4-py3-none-any.whl",
            "236e023f021f5ce7dee5779de7b286565fdea5f4ab86bae5338e3f7b69896cf0",
            "BSD-3-Clause",
        ),
        Archive(
            "networkx",
            "3.0",
            "networkx-3.0-py3-none-any.whl",
            "58058d66b1818043527244fab9d41a51fcd7dcc271748015f3c181b8a90c8e2e",
            "BSD-3-Clause",
        ),
        Archive(
            "networkx",
            "3.4.2",
            "networkx-3.4.2-py3-none-any.whl",
            "df5d4365b724cf81b8c6a7312509d0c22386097011ad1abe274afd5e9d3bbc5f",
            "BSD-3-Clause",
        ),
        Archive(
            "sqlalchemy",
            "1.4.54",
            f"SQLAlchemy-1.4.54-cp311-cp311-manylinux_2_5_x86_64.manylinux1_x86_64.{_LINUX}",
            "fb59a11689ff3c58e7652260127f9e34f7f45478a2f3ef831ab6db7bcd72108f",
            "MIT",
        ),
        Archive(
            "sqlalchemy",
            "2.0.36",
            f"SQLAlchemy-2.0.36-cp311-cp311-{_LINUX}",
            "2519f3a5d0517fc159afab1015e54bb81b4406c278749779be57a569d8d1bb0d",
            "MIT",
        ),
        Archive(
            "sympy",
            "1.12",
            "sympy-1.12-py3-none-any.whl",
            "c3588cd4295d0c0f603d0f2ae780587e64e2efeedb3521e46b9bb1d08d184fa5",
            "BSD-3-Clause",
        ),
        Archive(
            "sympy",
            "1.13.3",
            "sympy-1.13.3-py3-none-any.whl",
            "54612cf55a62755ee71824ce692986f23c88ffa77207b30c1368eda4a7060f73",
            "BSD-3-Clause",
        ),
        Archive(
            "twisted",
            "24.11.0",
            "twisted-24.11.0-py3-none-any.whl",
            "fe403076c71f04d5d2d789a755b687c5637ec3bcd3b2b8252d76f2ba65f54261",
            "MIT",
        ),
    )
}


def archive(name: str) -> Archive:
    try:
        return ARCHIVES[name]
    except KeyError:
        raise UserError(f"unknown archive {name!r}{nearest(name, ARCHIVES)}") from None


def read_verified(path: Path, pinned: Archive) -> bytes:
    """The bytes of ``path`` if they are those of the pinned archive; a UserError otherwise."""
    if not path.is_file():
        raise UserError(f"{path}: the archive {pinned.name} is missing; `make fetch` downloads it into a mirror")
    data = read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    if digest != pinned.sha256:
        raise UserError(
            f"{path}: not the pinned {pinned.name} ({len(data)} bytes, sha256 {digest[:16]}…, expected "
            f"{pinned.sha256[:16]}…); it is truncated or was changed: delete it and fetch it again"
        )
    return data


def download(pinned: Archive, out: Path, mirror: Path | None = None) -> None:
    """Fetch one archive to ``out``, from the package index or, if there is a ``mirror``, only from there.

    A file that does not match its checksum never gets the final name.
    """
    if mirror is not None:
        data = read_verified(mirror / pinned.file, pinned)
    else:
        with tempfile.TemporaryDirectory() as folder:
            data = read_verified(_from_index(pinned, Path(folder)), pinned)
    with atomic(out, "wb") as stream:
        stream.write(data)


def _from_index(pinned: Archive, folder: Path) -> Path:
    target = ["--platform", "manylinux2014_x86_64", "--implementation", "cp", "--python-version", "3.11"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *target]
    result = subprocess.run(
        [*command, "--dest", str(folder), f"{pinned.package}=={pinned.version}"],
        capture_output=True,
        text=True,
        check=False,
    )
    files = list(folder.iterdir())
    if result.returncode or len(files) != 1:
        reason = (result.stderr.strip().splitlines() or ["no file arrived"])[-1]
        raise UserError(
            f"cannot download {pinned.package}=={pinned.version}: {reason}. For machines without "
            "network, name a folder as `mirror` and fill it with `make fetch` where there is one"
        )
    return files[0]
