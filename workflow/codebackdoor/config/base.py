"""The base of every section of the configuration."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Immutable settings that refuse unknown keys; each field says what it is, in which unit, and the paper's value."""

    model_config = ConfigDict(extra="forbid", frozen=True)
