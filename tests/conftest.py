"""What every test begins with."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def numbers_as_small_as_they_come() -> None:
    """A job has no denormal numbers (``devices.device``), which holds for its process: the next test has them again."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
