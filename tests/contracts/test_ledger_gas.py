"""Gas of the usual actions against the committed snapshot, warm: what the code itself costs.

The in-memory EVM keeps slots and addresses warm between calls; what a chain charges is measured on one
(``tests/integration/test_ledger_gas_on_chain.py``). Signatures and hashes are random, so a byte of calldata costs 4 or
16 gas: a figure may move by one percent. ``CONCORDAT_GAS_WRITE=1`` writes the snapshot anew.
"""

from __future__ import annotations

import json

from ledger_gas import SNAPSHOT, against_snapshot, measure
from ledger_world import World


def test_gas_is_as_committed() -> None:
    assert not against_snapshot("warm", measure(World()))


def test_cold_costs_more() -> None:
    committed = json.loads(SNAPSHOT.read_text())
    assert all(committed["cold"][name] > gas for name, gas in committed["warm"].items())
