"""The compiled ledger in an in-memory EVM, with a clock, keys and certificates: what the contract tests stand on.

Nothing here knows the rules; it signs, encodes and submits. Times are unix seconds, shares parts per million.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyrevm

from ledger import abi
from ledger.abi import (
    Event,
    Genesis,
    Refusal,
    decode_event,
    decode_refusal,
    decode_result,
    encode_call,
)
from ledger.commitments import (
    WEEK,
    ZERO,
    Opening,
    key_id,
    key_set_hash,
)
from ledger.eip712 import Domain, Intent, new_nonce
from ledger.mandates import AnchorIntent
from ledger.signers import AccountKey, Custodian, Party, Role, certify, council_signatures

GENESIS_TIME = 2_950 * WEEK + 1_000
DAY = 86_400
DEPLOYER = bytes.fromhex("de" * 20)
GATEWAY = "0x" + "9a" * 20
GAS = 30_000_000


@dataclass(frozen=True)
class Outcome:
    """What one transaction did."""

    ok: bool
    data: bytes
    gas: int
    events: tuple[Event, ...] = ()

    @property
    def refusal(self) -> Refusal:
        """Why it was refused."""
        assert not self.ok, "the transaction was applied"
        return decode_refusal(self.data)


class World:
    """One chain with one ledger."""

    def __init__(self, **genesis: Any) -> None:
        self.chain_id = int.from_bytes(os.urandom(6), "big") + 1
        self.number, self.time = 10, GENESIS_TIME
        self.evm = pyrevm.EVM(spec_id="CANCUN", env=pyrevm.Env(cfg=pyrevm.CfgEnv(chain_id=self.chain_id)))
        self._set_block()
        self.registry = AccountKey.new()
        self.council = sorted((AccountKey.new() for _ in range(5)), key=lambda key: key_id(key.key))
        self.genesis = Genesis(
            os.urandom(32), self.registry.key, tuple(key_id(key.key) for key in self.council), 3, **genesis
        )
        self.nonce = 0
        self.at = self.deploy(self.genesis)
        self.domain = Domain(self.chain_id, self.at["Ledger"], self.genesis.consortium)
        self.members = [self.party(Role.MEMBER) for _ in range(2)]

    # ---- chain

    def deploy(self, genesis: Genesis) -> dict[str, bytes]:
        """Deploy a version of the ledger; returns the address of each contract."""
        at = {}
        for one in abi.deployment(genesis, DEPLOYER, self.nonce):
            address = self.evm.deploy("0x" + DEPLOYER.hex(), one.data)
            assert bytes.fromhex(address[2:]) == one.address
            at[one.name] = one.address
            self.nonce += 1
        return at

    def _set_block(self) -> None:
        self.evm.set_block_env(
            pyrevm.BlockEnv(number=self.number, timestamp=self.time, gas_limit=GAS, basefee=0)
        )

    def pass_time(self, seconds: int = 12, blocks: int = 1) -> None:
        """Let blocks and seconds pass."""
        self.number += blocks
        self.time += seconds
        self._set_block()

    @contextmanager
    def fresh(self) -> Iterator[None]:
        """Go back to the present state at the end."""
        before, snapshot = (self.number, self.time, self.nonce), self.evm.snapshot()
        try:
            yield
        finally:
            self.evm.revert(snapshot)
            self.number, self.time, self.nonce = before
            self._set_block()

    def raw(self, to: bytes, data: bytes, gas: int = GAS) -> Outcome:
        """Submit calldata from the gateway."""
        try:
            returned = self.evm.message_call(GATEWAY, "0x" + to.hex(), data, gas=gas)
        except RuntimeError as problem:
            text = str(problem)
            output = text.split("output: 0x")[1].split(" ")[0] if "output: 0x" in text else ""
            return Outcome(False, bytes.fromhex(output), self.evm.result.gas_used)
        result = self.evm.result
        events = (
            tuple(
                decode_event([bytes(topic) for topic in log.data[0]], bytes(log.data[1]))
                for log in result.logs
                if log.address.lower() == "0x" + self.at["Ledger"].hex()
            )
            if to == self.at["Ledger"]
            else ()
        )
        return Outcome(True, bytes(returned), result.gas_used, events)

    def submit(self, function: str, *arguments: Any, gas: int = GAS) -> Outcome:
        """Submit an action to the ledger."""
        return self.raw(self.at["Ledger"], encode_call(function, arguments), gas)

    def view(self, function: str, *arguments: Any) -> Any:
        """Call a view; a single value comes back bare."""
        outcome = self.raw(self.at["Ledger"], encode_call(function, arguments))
        assert outcome.ok
        values = decode_result(function, outcome.data)
        return values[0] if len(values) == 1 else values

    # ---- parties

    def party(
        self,
        role: Role,
        custodian: Custodian = Custodian.SELF,
        key_set: bytes = ZERO,
        expiry: int | None = None,
        key: Any = None,
    ) -> Party:
        """Return a fresh key with a certificate."""
        signer = key or AccountKey.new()
        until = self.time + 30_000 * DAY if expiry is None else expiry
        return Party(signer, certify(self.registry, self.domain, role, signer.key, until, custodian, key_set))

    def key_set(self, size: int = 3) -> tuple[list[Party], list[bytes]]:
        """Return the parties of a 2-of-n key set and the set as it will be shown; the first is the holder."""
        keys = [AccountKey.new() for _ in range(size)]
        shown = [key_id(key.key) for key in keys]
        return [self.party(Role.BANK, key_set=key_set_hash(shown), key=key) for key in keys], shown

    def late(self) -> int:
        """A `notAfter` that is far off."""
        return self.time + 10_000 * DAY

    def week(self, ahead: int = 0) -> int:
        """The current week, or one ahead."""
        return self.time // WEEK + ahead

    # ---- actions, with defaults

    def anchor(self, leaf: bytes, kind: int = 1, member: Party | None = None) -> Opening:
        """Anchor a tree of one leaf; the salt of the opening is the caller's to fill in."""
        by = member or self.members[0]
        intent = AnchorIntent(kind, leaf, 1, new_nonce(), self.late())
        outcome = self.submit("anchor", intent, by.sign(self.domain, intent))
        assert outcome.ok, outcome.refusal
        return Opening(ZERO, by.key_id, leaf, 1, 0)

    def by_council(self, intent: Intent, count: int = 4) -> list[tuple[bytes, bytes]]:
        """Signatures of the first council members."""
        return council_signatures(self.council[:count], self.domain, intent)

    def status(self, claim: bytes) -> dict[str, Any]:
        """The claim's status by field name."""
        entry = next(one for one in abi.ledger_abi() if one.get("name") == "statusOf")
        names = [one["name"] for one in entry["outputs"][0]["components"]]
        return dict(zip(names, self.view("statusOf", claim), strict=True))

    def lien(self, claim: bytes, lien_id: bytes) -> tuple[int, int, int, bytes]:
        """ppm, status, frozenUntil, holder of a lien."""
        found: tuple[int, int, int, bytes] = self.view("lienOf", claim, lien_id)
        return found
