"""One ledger for all contract tests; each test starts from its snapshot.

``CONCORDAT_CONTRACTS`` may name a folder of artifacts that replace committed ones: mutants are tested that way.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger import abi

_COMMITTED = abi.artifact


def _artifact(name: str) -> dict[str, Any]:
    replaced = Path(os.environ.get("CONCORDAT_CONTRACTS", "")) / f"{name}.json"
    if "CONCORDAT_CONTRACTS" in os.environ and replaced.is_file():
        loaded: dict[str, Any] = json.loads(replaced.read_text())
        return loaded
    return _COMMITTED(name)


abi.artifact = _artifact  # type: ignore[assignment]

from ledger_world import World  # noqa: E402


@pytest.fixture(scope="session")
def _one_world() -> World:
    return World()


@pytest.fixture
def world(_one_world: World) -> Iterator[World]:
    """A fresh ledger."""
    with _one_world.fresh():
        yield _one_world
