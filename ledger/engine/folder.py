"""What lies in a ledger's folder beside the log: keys and the genesis document."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from ledger.engine import founding
from ledger.engine import genesis as genesis_document
from ledger.engine import keys as ledger_keys
from ledger.engine.genesis import Genesis
from ledger.engine.keys import LedgerKeys
from protocol import document
from protocol.errors import ConfigurationError


def solo(data: Path, engine: str, name: str, *, bare: bool = False) -> Path:
    """Write keys and the genesis document of a ledger with one member, for trying things out.

    Args:
        data: the ledger's folder.
        engine: ``edr`` or ``anvil``.
        name: the operator's name.
        bare: leave the contracts out; else their authority's keys are drawn into ``authority/``.
    """
    keys = ledger_keys.create(data / "keys")
    member = keys.member(name)
    if bare:
        body = genesis_document.draft(member, [member], int(time.time()), engine=engine)
    else:
        authority = founding.authority(data / "authority")
        body = asyncio.run(founding.body(authority, member, [member], engine=engine))
    return write_genesis(data, document.sign(genesis_document.KIND, body, name, keys.identity))


def write_genesis(data: Path, signed: dict[str, Any]) -> Path:
    """Check a genesis document and write it into a ledger's folder."""
    genesis_document.check(signed)
    path = data / "genesis.json"
    path.write_text(json.dumps(signed, indent=1) + "\n")
    return path


def read_genesis(data: Path) -> Genesis:
    """Return the checked genesis document of a folder.

    Raises:
        ConfigurationError: ``GENESIS_MISSING``.
        ProtocolError: as `genesis.check`.
    """
    try:
        signed = json.loads((data / "genesis.json").read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            "GENESIS_MISSING",
            "The folder has no readable genesis.json.",
            "`python -m ledger.engine new` makes one.",
        ) from error
    return genesis_document.check(signed)


def sign_genesis(path: Path, name: str, keys: LedgerKeys) -> None:
    """Add a party's signature to a document, or begin one from a bare body.

    Raises:
        ConfigurationError: ``GENESIS_MISSING``, ``NOT_A_PARTY``.
        ProtocolError: if the document breaks a rule, or the party has signed already.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError("GENESIS_MISSING", "The document can't be read.") from error
    body = found["body"] if isinstance(found, dict) and "body" in found else found
    genesis = genesis_document.parse_unsigned(body)
    if keys.member(name) not in (*genesis.members, genesis.operator):
        raise ConfigurationError("NOT_A_PARTY", "The document names other keys for this party, or none.")
    if body is found:
        signed = document.sign(genesis_document.KIND, body, name, keys.identity)
    else:
        signed = document.add_signature(found, name, keys.identity)
    path.write_text(json.dumps(signed, indent=1) + "\n")
