"""The document from which a ledger begins, signed by all who take part.

Specification: a signed document (`protocol.document`) of kind ``ledger-genesis``. Its body names a random
consortium id, a random chain id below 2^53, the genesis time, the engine and its rule set, the operator, the
members with their identity and checkpoint keys, the raw deployment transactions of the consortium's
contracts, and for each contract its address and the keccak-256 of the code that must stand there afterwards.

Invariants:
    - Every member and the operator have signed; each with its identity key. Names and keys are unique, and a
      checkpoint key is nobody's identity key (the two sign different kinds of bytes).
    - A contract comes into being only through this document. Its deployer's key is thrown away, so nobody
      holds a power that the contracts don't give.

What each party learns: the document is public among the members. Not protected: whether the contracts are the
ones that were audited. Each member compares code hashes with its own build before it signs.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import coincurve
from eth_hash.auto import keccak

from ledger.engine import rlp
from ledger.engine.port import HARDFORKS, TRANSACTION_GAS, ChainParameters
from ledger.engine.transactions import parse
from protocol import canonical, document
from protocol.checkpoint import COSIGNATURE, ED25519, NoteKey
from protocol.errors import ProtocolError
from protocol.identity import check_name
from protocol.keys import PublicKey

KIND = "ledger-genesis"
ENGINES = ("edr", "anvil")
MAX_CHAIN_ID = (1 << 53) - 1
CLOCK_TOLERANCE = 30
"""Seconds; a consortium whose clocks are better may agree on less."""


@dataclass(frozen=True)
class Member:
    """One who takes part.

    Attributes:
        name: a party's name.
        identity: signs documents and acknowledgements.
        checkpoint: signs checkpoints (C2SP signed notes); 32 bytes, Ed25519.
    """

    name: str
    identity: PublicKey
    checkpoint: PublicKey

    def to_json(self) -> dict[str, str]:
        """Return the member as a JSON object."""
        return {"name": self.name, "identity": self.identity.hex, "checkpoint": self.checkpoint.hex}


@dataclass(frozen=True)
class Contract:
    """A contract that the genesis deploys.

    Attributes:
        name: its role, such as ``registry``.
        address: 20 bytes.
        code_hash: keccak-256 of its deployed code, 32 bytes.
    """

    name: str
    address: bytes
    code_hash: bytes


class Cosigned:
    """Who orders a ledger and who co-signs its checkpoints, and the names and keys that follow from it.

    Attributes:
        consortium: 32 bytes.
        operator: who orders.
        members: who co-sign.
    """

    consortium: bytes
    operator: Member
    members: tuple[Member, ...]

    @property
    def origin(self) -> str:
        """The log's name in checkpoints."""
        return f"concordat/ledger/{self.consortium.hex()}"

    @property
    def member_set(self) -> bytes:
        """Digest of the ordered members, as checkpoints name it, 32 bytes."""
        return bytes.fromhex(canonical.digest("ledger-members", [each.to_json() for each in self.members]))

    def operator_key(self, kind: int = ED25519) -> NoteKey:
        """Return the key that the operator signs, or timestamps, checkpoints with."""
        return NoteKey(self.origin, kind, self.operator.checkpoint)

    def member_keys(self) -> dict[str, NoteKey]:
        """Return the members' cosignature keys by name."""
        return {
            each.name: NoteKey(f"{self.origin}/{each.name}", COSIGNATURE, each.checkpoint)
            for each in self.members
        }


@dataclass(frozen=True)
class Genesis(Cosigned):
    """A verified genesis document.

    Attributes:
        consortium: 32 random bytes.
        chain: what determines block 0.
        engine: ``edr`` or ``anvil``; block hashes are comparable within one engine only.
        operator: who orders.
        members: who verify; the operator may be one of them.
        deployments: raw creation transactions, executed in the first blocks.
        contracts: what must stand afterwards.
        clock_tolerance: seconds by which a time may differ from a member's clock.
        digest: SHA-256 of the canonical body under the kind.
    """

    consortium: bytes
    chain: ChainParameters
    engine: str
    operator: Member
    members: tuple[Member, ...]
    deployments: tuple[bytes, ...]
    contracts: tuple[Contract, ...]
    clock_tolerance: int
    digest: bytes

    @property
    def registry(self) -> Contract | None:
        """The contract named ``registry``, if there is one."""
        return next((each for each in self.contracts if each.name == "registry"), None)


def draft(
    operator: Member,
    members: Sequence[Member],
    genesis_time: int,
    *,
    engine: str = "edr",
    chain_id: int | None = None,
    consortium: bytes | None = None,
    deployments: Sequence[bytes] = (),
    contracts: Sequence[Contract] = (),
    clock_tolerance: int = CLOCK_TOLERANCE,
) -> dict[str, Any]:
    """Return the body of a new ledger's genesis document, with fresh random ids unless they are given.

    With deployments they must be given: the transactions are signed for one chain (`new_chain_id`), and the
    contracts may hold the consortium's id.
    """
    return {
        "consortium": (secrets.token_bytes(32) if consortium is None else consortium).hex(),
        "chain_id": new_chain_id() if chain_id is None else chain_id,
        "genesis_time": genesis_time,
        "hardfork": HARDFORKS[0],
        "clock_tolerance": clock_tolerance,
        "engine": engine,
        "operator": operator.to_json(),
        "members": [each.to_json() for each in members],
        "deployments": [raw.hex() for raw in deployments],
        "contracts": [
            {"name": each.name, "address": each.address.hex(), "code_hash": each.code_hash.hex()}
            for each in contracts
        ],
    }


def new_chain_id() -> int:
    """Return a random chain id that every JavaScript number can hold and no public chain uses."""
    return (1 << 40) + secrets.randbelow(MAX_CHAIN_ID - (1 << 40))


def deploy(
    chain_id: int, codes: Sequence[tuple[str, bytes]] | Callable[[bytes], Sequence[tuple[str, bytes]]]
) -> tuple[list[bytes], dict[str, bytes]]:
    """Sign creation transactions with a key that is thrown away.

    Args:
        chain_id: the new chain's.
        codes: (name, creation code with constructor arguments) in order, or what gives them for the deployer's
            address, when constructors name one another.

    Returns:
        The raw transactions, and each contract's future address (20 bytes) by name.
    """
    deployer = coincurve.PrivateKey(secrets.token_bytes(32))
    sender = bytes(keccak(deployer.public_key.format(compressed=False)[1:])[12:])
    raws, addresses = [], {}
    for nonce, (name, code) in enumerate(codes(sender) if callable(codes) else codes):
        raws.append(sign_legacy(deployer, chain_id, nonce, b"", code, TRANSACTION_GAS))
        addresses[name] = address_of(sender, nonce)
    return raws, addresses


def deployment(raw: bytes, chain_id: int) -> tuple[bytes, bytes]:
    """Return (deployer's address, creation code with arguments) of a deployment transaction.

    Raises:
        LedgerError: as `transactions.parse`.
    """
    found = parse(raw, chain_id, deployment=True)
    content = rlp.items(raw)[5][1]
    return found.sender, content or b""


def sign_legacy(
    key: coincurve.PrivateKey, chain_id: int, nonce: int, to: bytes, data: bytes, gas: int
) -> bytes:
    """Return a raw legacy transaction of no value and no fee, signed for one chain (EIP-155).

    Args:
        key: the sender's secp256k1 key.
        chain_id: the chain's.
        nonce: the sender's count.
        to: called address, 20 bytes, or empty for a creation.
        data: call data.
        gas: limit.
    """
    fields = [
        *[rlp.encode_number(nonce), rlp.encode_number(0), rlp.encode_number(gas)],
        *[rlp.encode_bytes(to), rlp.encode_number(0), rlp.encode_bytes(data)],
    ]
    zero = rlp.encode_number(0)
    digest = keccak(rlp.encode_list([*fields, rlp.encode_number(chain_id), zero, zero]))
    signature = key.sign_recoverable(digest, hasher=None)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    v = chain_id * 2 + 35 + signature[64]
    return rlp.encode_list([*fields, *[rlp.encode_number(each) for each in (v, r, s)]])


def address_of(sender: bytes, nonce: int) -> bytes:
    """Return the address of the contract that a sender creates with a nonce (Yellow Paper, section 7)."""
    return bytes(keccak(rlp.encode_list([rlp.encode_bytes(sender), rlp.encode_number(nonce)]))[12:])


def check(signed: dict[str, Any]) -> Genesis:
    """Return a genesis whose members and operator have all signed it.

    The keys are the document's own: that they belong to the institutions is for the reader to know, by
    comparing `Genesis.digest` or the keys with what was exchanged out of band.

    Raises:
        ProtocolError: ``GENESIS_MALFORMED`` or the code of a malformed field.
        SignatureInvalid: if a signature is missing or wrong.
        LedgerError: if a deployment transaction is not acceptable.
    """
    genesis = parse_unsigned(signed.get("body") if isinstance(signed, dict) else None)
    keys = {each.name: each.identity for each in (*genesis.members, genesis.operator)}
    document.verify(signed, KIND, keys, keys.keys())
    return genesis


def parse_unsigned(body: Any) -> Genesis:
    """Return the genesis of a body that nobody has signed yet: for drafting only.

    Raises:
        ProtocolError: as `check`.
        LedgerError: as `check`.
    """
    try:
        operator = _member(body["operator"])
        members = tuple(_member(each) for each in body["members"])
        chain = ChainParameters(int(body["chain_id"]), int(body["genesis_time"]), str(body["hardfork"]))
        genesis = Genesis(
            consortium=bytes.fromhex(body["consortium"]),
            chain=chain,
            engine=str(body["engine"]),
            operator=operator,
            members=members,
            deployments=tuple(bytes.fromhex(raw) for raw in body["deployments"]),
            contracts=tuple(
                Contract(str(each["name"]), bytes.fromhex(each["address"]), bytes.fromhex(each["code_hash"]))
                for each in body["contracts"]
            ),
            clock_tolerance=int(body["clock_tolerance"]),
            digest=bytes.fromhex(canonical.digest(KIND, body)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError(
            "GENESIS_MALFORMED", "A field of the genesis document is missing or wrong."
        ) from error
    _check_fields(genesis)
    for raw in genesis.deployments:
        parse(raw, chain.chain_id, deployment=True)
    return genesis


def _member(entry: dict[str, str]) -> Member:
    return Member(
        check_name(entry["name"]),
        PublicKey.from_hex(entry["identity"]),
        PublicKey.from_hex(entry["checkpoint"]),
    )


def _check_fields(genesis: Genesis) -> None:
    chain, everybody = genesis.chain, list(genesis.members)
    if genesis.operator not in everybody:
        everybody.append(genesis.operator)
    names = {each.name for each in everybody}
    keys = {key.raw for each in everybody for key in (each.identity, each.checkpoint)}
    sound = (
        len(genesis.consortium) == 32
        and 0 < chain.chain_id <= MAX_CHAIN_ID
        and 0 < chain.genesis_time < 1 << 40
        and chain.hardfork in HARDFORKS
        and genesis.engine in ENGINES
        and len(genesis.members) >= 1
        and 1 <= genesis.clock_tolerance <= 300
        and len(names) == len(everybody)
        and len(keys) == 2 * len(everybody)
        and len({each.name for each in genesis.contracts}) == len(genesis.contracts)
        and all(len(each.address) == 20 and len(each.code_hash) == 32 for each in genesis.contracts)
    )
    if not sound:
        raise ProtocolError(
            "GENESIS_MALFORMED", "The genesis document breaks a rule on ids, times, names, keys or contracts."
        )
