"""The committed contracts: ABI, bytecode, calls, refusals, and how a ledger is deployed.

The artifacts lie in ``artifacts/`` and are compiled by ``contracts/build.mjs``; users need no compiler. All actions
go to one address, whose ABI is the union of the modules' (:func:`ledger_abi`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from eth_abi.abi import decode, encode
from eth_utils.crypto import keccak

from protocol.errors import ConfigurationError, LedgerError

# In the order of the struct Modules in Ledger.sol.
MODULES = (
    "AnchorModule",
    "ClaimModule",
    "LienModule",
    "SettlementModule",
    "CouncilModule",
    "ContestModule",
    "SuccessionModule",
    "TagModule",
)
VERIFIERS = ("ERC7913P256Verifier", "ERC7913WebAuthnVerifier")
_GENESIS = "(bytes32,bytes,bytes32[],uint8,uint16,uint16,uint32,uint64,uint32,address[],address)"
_MODULES = "(address,address,address,address,address,address,address,address)"


@cache
def artifact(name: str) -> dict[str, Any]:
    """Return a committed artifact: ``abi``, ``bytecode`` (hex), ``deployedSize`` (bytes), ``storage``.

    Raises:
        ConfigurationError: no such artifact was committed.
    """
    path = files("ledger").joinpath("artifacts", f"{name}.json")
    if not path.is_file():
        raise ConfigurationError("LEDGER_NO_ARTIFACT", f"There is no compiled contract {name}.")
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


@cache
def ledger_abi() -> list[dict[str, Any]]:
    """Return the union of the ledger's and its modules' ABI, without duplicates, constructors or fallback."""
    seen: dict[str, dict[str, Any]] = {}
    for name in ("Ledger", *MODULES):
        for entry in artifact(name)["abi"]:
            if entry["type"] in ("function", "event", "error"):
                seen.setdefault(f"{entry['type']} {signature(entry)}", entry)
    return list(seen.values())


def canonical_type(parameter: dict[str, Any]) -> str:
    """Return the canonical ABI type of a parameter; tuples are written out."""
    kind: str = parameter["type"]
    if kind.startswith("tuple"):
        inner = ",".join(canonical_type(one) for one in parameter["components"])
        return f"({inner}){kind[5:]}"
    return kind


def signature(entry: dict[str, Any]) -> str:
    """Return ``name(type,…)`` of a function, an event or an error."""
    return f"{entry['name']}({','.join(canonical_type(one) for one in entry['inputs'])})"


@cache
def _functions() -> dict[str, tuple[bytes, list[str], list[str]]]:
    return {
        entry["name"]: (
            keccak(text=signature(entry))[:4],
            [canonical_type(one) for one in entry["inputs"]],
            [canonical_type(one) for one in entry["outputs"]],
        )
        for entry in ledger_abi()
        if entry["type"] == "function"
    }


def plain(value: Any) -> Any:
    """Return a statement, a body, an opening or a list of them as the tuples that the ABI takes."""
    if hasattr(value, "values") and not isinstance(value, dict):
        return value.values()
    return [plain(one) for one in value] if isinstance(value, list) else value


def encode_call(function: str, arguments: Sequence[Any]) -> bytes:
    """Return the calldata of an action or a view of the ledger; see :func:`plain`."""
    selector, inputs, _ = _functions()[function]
    return selector + encode(inputs, [plain(one) for one in arguments])


def decode_result(function: str, data: bytes) -> tuple[Any, ...]:
    """Return what a call gave back, as a tuple."""
    return tuple(decode(_functions()[function][2], data))


@dataclass(frozen=True, slots=True)
class Event:
    """One decoded log entry of the ledger."""

    name: str
    fields: dict[str, Any]


@cache
def _events() -> dict[bytes, dict[str, Any]]:
    return {keccak(text=signature(one)): one for one in ledger_abi() if one["type"] == "event"}


def decode_event(topics: Sequence[bytes], data: bytes) -> Event:
    """Return a decoded log entry.

    Raises:
        LedgerError: ``LEDGER_UNKNOWN_EVENT``, the entry is none of this ledger's.
    """
    entry = _events().get(topics[0]) if topics else None
    if entry is None:
        raise LedgerError(
            "LEDGER_UNKNOWN_EVENT", "A log entry is none that this version of the ledger emits."
        )
    indexed = [one for one in entry["inputs"] if one["indexed"]]
    plain = [one for one in entry["inputs"] if not one["indexed"]]
    fields: dict[str, Any] = {}
    for one, topic in zip(indexed, topics[1:], strict=True):
        fields[one["name"]] = decode([canonical_type(one)], topic)[0]
    values = decode([canonical_type(one) for one in plain], data)
    fields.update(zip((one["name"] for one in plain), values, strict=True))
    return Event(entry["name"], fields)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A decoded custom error: why the ledger refused, with its arguments."""

    name: str
    arguments: dict[str, Any]

    @property
    def code(self) -> str:
        """Stable code, such as ``LEDGER_OVER_CAPACITY``."""
        return "LEDGER_" + re.sub(r"(?<!^)(?=[A-Z])", "_", self.name).upper()

    def error(self) -> LedgerError:
        """Return the refusal as an error; its message holds no id and no value."""
        words = re.sub(r"(?<!^)(?=[A-Z])", " ", self.name).lower()
        return LedgerError(self.code, f"The ledger refused: {words}.")


@cache
def _errors() -> dict[bytes, dict[str, Any]]:
    return {keccak(text=signature(one))[:4]: one for one in ledger_abi() if one["type"] == "error"}


def decode_refusal(data: bytes) -> Refusal:
    """Return why a call reverted. Raw revert data that is no custom error reads as ``Unknown``."""
    entry = _errors().get(data[:4])
    if entry is None:
        return Refusal("Unknown", {"data": data})
    values = decode([canonical_type(one) for one in entry["inputs"]], data[4:])
    return Refusal(entry["name"], dict(zip((one["name"] for one in entry["inputs"]), values, strict=True)))


@dataclass(frozen=True, slots=True)
class Genesis:
    """What a new ledger starts with.

    Args:
        consortium: 32-byte salt.
        registry_key: bytes of the registry's key.
        council: key ids of the council, ascending.
        threshold: M, at least 2.
        oldest_epoch: oldest live epoch of tag keys, from 1.
        newest_epoch: newest live epoch; at most one more.
        roots_per_day: a member's daily roots.
        leaves_per_day: a member's daily leaves.
        notices_per_day: a member's daily duplicate notices.
        predecessor: the version before, or 20 zero bytes.
    """

    consortium: bytes
    registry_key: bytes
    council: tuple[bytes, ...]
    threshold: int
    oldest_epoch: int = 1
    newest_epoch: int = 1
    roots_per_day: int = 10_000
    leaves_per_day: int = 10_000_000
    notices_per_day: int = 1_000
    predecessor: bytes = bytes(20)


@dataclass(frozen=True, slots=True)
class Creation:
    """One contract creation of a deployment."""

    name: str
    data: bytes
    address: bytes


def contract_address(deployer: bytes, nonce: int) -> bytes:
    """Return the 20-byte address of the contract that a nonce creates (Yellow Paper, section 7)."""
    number = nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")
    item = number if len(number) == 1 and number[0] < 0x80 else bytes([0x80 + len(number)]) + number
    return keccak(bytes([0xC0 + 21 + len(item), 0x80 + 20]) + deployer + item)[12:]


def deployment(genesis: Genesis, deployer: bytes, nonce: int = 0) -> list[Creation]:
    """Return the creations of a ledger in order: verifiers, modules, ledger, address book.

    Args:
        genesis: what the ledger starts with.
        deployer: 20-byte address whose transactions carry the creations.
        nonce: its next nonce.
    """
    names = [*VERIFIERS, *MODULES, "Ledger", "AddressBook"]
    at = {name: contract_address(deployer, nonce + i) for i, name in enumerate(names)}
    start = (
        genesis.consortium,
        genesis.registry_key,
        list(genesis.council),
        genesis.threshold,
        genesis.oldest_epoch,
        genesis.newest_epoch,
        genesis.roots_per_day,
        genesis.leaves_per_day,
        genesis.notices_per_day,
        [at[name] for name in VERIFIERS],
        genesis.predecessor,
    )
    arguments = {
        "Ledger": encode([_GENESIS, _MODULES], [start, tuple(at[name] for name in MODULES)]),
        "AddressBook": encode(["address"], [at["Ledger"]]),
    }
    return [
        Creation(name, bytes.fromhex(artifact(name)["bytecode"][2:]) + arguments.get(name, b""), at[name])
        for name in names
    ]
