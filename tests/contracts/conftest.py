"""One ledger for all contract tests; each test starts from its snapshot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ledger_world import World


@pytest.fixture(scope="session")
def _one_world() -> World:
    return World()


@pytest.fixture
def world(_one_world: World) -> Iterator[World]:
    """A fresh ledger."""
    before = (_one_world.number, _one_world.time, _one_world.nonce)
    snapshot = _one_world.evm.snapshot()
    yield _one_world
    _one_world.evm.revert(snapshot)
    _one_world.number, _one_world.time, _one_world.nonce = before
    _one_world.pass_time(0, 0)
