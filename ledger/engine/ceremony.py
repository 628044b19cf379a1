"""Building a genesis document with contracts: run their deployment once, and write down the code that it leaves.

Who drafts runs this; who signs runs `check_build` with creation code from its own build and compares.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eth_hash.auto import keccak

from ledger.engine import genesis as document
from ledger.engine.chain import Chain
from ledger.engine.genesis import CLOCK_TOLERANCE, Genesis, Member
from protocol.errors import ProtocolError

Creations = Callable[[int, bytes, bytes], Sequence[tuple[str, bytes]]]
"""(chain id, consortium id, deployer's address) to (name, creation code with arguments) in order."""


async def build(
    operator: Member,
    members: Sequence[Member],
    genesis_time: int,
    creations: Creations,
    *,
    registry: str,
    engine: str = "edr",
    clock_tolerance: int = CLOCK_TOLERANCE,
) -> dict[str, Any]:
    """Return the body of a genesis document that deploys contracts.

    Args:
        operator: who orders.
        members: who verify.
        genesis_time: Unix seconds of block 0.
        creations: the contracts.
        registry: the name of the contract that checkpoints name as the registry.
        engine: ``edr`` or ``anvil``.
        clock_tolerance: seconds.

    Raises:
        Unavailable: ``GENESIS_DEPLOYMENT`` if one fails.
    """
    chain_id, consortium = document.new_chain_id(), secrets.token_bytes(32)
    raws, addresses = document.deploy(chain_id, lambda deployer: creations(chain_id, consortium, deployer))
    body = document.draft(
        operator,
        members,
        genesis_time,
        engine=engine,
        chain_id=chain_id,
        consortium=consortium,
        deployments=raws,
        clock_tolerance=clock_tolerance,
    )
    codes = await _deployed(document.parse_unsigned(body), addresses)
    body["contracts"] = [
        {
            "name": "registry" if name == registry else name,
            "address": addresses[name].hex(),
            "code_hash": keccak(code).hex(),
        }
        for name, code in codes.items()
    ]
    document.parse_unsigned(body)
    return body


async def _deployed(genesis: Genesis, addresses: dict[str, bytes]) -> dict[str, bytes]:
    """Run the deployments on a chain that is thrown away, and return each contract's code."""
    with TemporaryDirectory() as folder:
        chain = Chain(genesis, Path(folder))
        try:
            await chain.open()
            await chain.deploy(genesis.chain.genesis_time)
            codes = {
                name: bytes.fromhex((await chain.ask("eth_getCode", "0x" + at.hex(), "latest"))[2:])
                for name, at in addresses.items()
            }
        finally:
            await chain.close()
    empty = sorted(name for name, code in codes.items() if not code)
    if empty:
        raise ProtocolError("GENESIS_DEPLOYMENT", f"These contracts leave no code: {', '.join(empty)}.")
    return codes


def check_build(genesis: Genesis, creations: Creations) -> None:
    """Compare a document's deployments with creation code from the reader's own build.

    Raises:
        ProtocolError: ``GENESIS_OTHER_CODE``.
    """
    consortium, chain_id = genesis.consortium, genesis.chain.chain_id
    found = [document.deployment(raw, chain_id) for raw in genesis.deployments]
    expected = creations(chain_id, consortium, found[0][0]) if found else []
    same = [code for _, code in expected] == [code for _, code in found]
    if not same or len({sender for sender, _ in found}) > 1:
        raise ProtocolError(
            "GENESIS_OTHER_CODE",
            "The genesis document deploys other code than this installation's contracts.",
            "Find out which release it was drafted with; don't sign it before.",
        )
