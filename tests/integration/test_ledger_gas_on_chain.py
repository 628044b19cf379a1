"""Gas of the usual actions as the embedded chain charges it: every slot and address is cold (EIP-2929)."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_processes import needs_engine
from ledger_gas import against_snapshot, measure
from ledger_gateway import running

pytestmark = [pytest.mark.integration, needs_engine]


def test_cold_gas_is_as_committed(tmp_path: Path) -> None:
    with running(tmp_path) as (world, _):
        assert not against_snapshot("cold", measure(world))
