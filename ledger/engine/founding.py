"""Founding a ledger that begins with its contracts: the registry's and the council's keys, and the genesis document.

The authority is a folder of its own. In a consortium each council member keeps its key at home and the registry's lies
with whoever issues certificates; here one seed derives them all, which is right for one machine and nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger import abi
from ledger.commitments import key_id
from ledger.engine import ceremony
from ledger.engine.genesis import CLOCK_TOLERANCE, Member
from ledger.keyring import Keyring
from ledger.signers import AccountKey

COUNCIL = 3
THRESHOLD = 2
REGISTRY = "Ledger"
"""The contract that checkpoints name as the registry."""


@dataclass(frozen=True)
class Authority:
    """Who certifies keys, and who may freeze and decide.

    Attributes:
        registry: signs certificates.
        council: M of them hold, pause and resolve.
    """

    registry: AccountKey
    council: tuple[AccountKey, ...]

    @classmethod
    def of(cls, keyring: Keyring) -> Authority:
        """Derive all keys from one seed."""
        return cls(keyring.account("registry"), tuple(keyring.account("council", n) for n in range(COUNCIL)))

    def creations(self, chain_id: int, consortium: bytes, deployer: bytes) -> list[tuple[str, bytes]]:
        """Return the contracts' creation code in order, for `ceremony.build`."""
        council = tuple(sorted(key_id(key.key) for key in self.council))
        start = abi.Genesis(consortium, self.registry.key, council, THRESHOLD)
        return [(each.name, each.data) for each in abi.deployment(start, deployer)]


async def body(
    authority: Authority,
    operator: Member,
    members: Sequence[Member],
    *,
    engine: str = "edr",
    clock_tolerance: int = CLOCK_TOLERANCE,
) -> dict[str, Any]:
    """Return the unsigned body of a genesis document with contracts.

    Raises:
        Unavailable: ``GENESIS_DEPLOYMENT`` or what the engine raises.
    """
    return await ceremony.build(
        operator,
        members,
        int(time.time()),
        authority.creations,
        registry=REGISTRY,
        engine=engine,
        clock_tolerance=clock_tolerance,
    )


def authority(folder: Path) -> Authority:
    """Return the authority whose keys lie in a folder; draw them if it has none."""
    known = (folder / "keystore.json").exists()
    return Authority.of(Keyring.load(folder) if known else Keyring.create(folder))
