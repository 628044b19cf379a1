"""The compiled ledger in an in-memory EVM, with a clock, keys and certificates: what the contract tests stand on.

Nothing here knows the rules; it signs, encodes and submits. Times are unix seconds, shares parts per million.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyrevm

from ledger import abi
from ledger.abi import (
    Creation,
    Event,
    Genesis,
    Refusal,
    decode_event,
    decode_refusal,
    decode_result,
    encode_call,
)
from ledger.commitments import (
    FULL,
    NO_CONTRACT,
    WEEK,
    ZERO,
    Body,
    Draft,
    Opening,
    TagSet,
    Ticket,
    holder_ref,
    key_id,
    key_set_hash,
    tags_hash,
)
from ledger.eip712 import Domain, Intent, new_nonce
from ledger.intents import (
    AttestIntent,
    ConfirmIntent,
    CreditNoteIntent,
    PledgeConsent,
    PledgeIntent,
    ReleaseIntent,
    SettleFreeIntent,
    SettleLienIntent,
)
from ledger.mandates import AnchorIntent
from ledger.signers import AccountKey, Custodian, Party, Role, certify, council_signatures, holder_auth

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

    def __init__(self, creations: Sequence[Creation] | None = None, **genesis: Any) -> None:
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
        self.patched = {one.name: one.data for one in creations or ()}
        self.at = self.deploy(self.genesis)
        self.domain = Domain(self.chain_id, self.at["Ledger"], self.genesis.consortium)
        self.members = [self.party(Role.MEMBER) for _ in range(2)]

    # ---- chain

    def deploy(self, genesis: Genesis) -> dict[str, bytes]:
        """Deploy a version of the ledger; modules may be replaced by patched bytecode."""
        at = {}
        for one in abi.deployment(genesis, DEPLOYER, self.nonce):
            code = self.patched.get(one.name, one.data)
            address = self.evm.deploy("0x" + DEPLOYER.hex(), code)
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
        until = self.time + 3_000 * DAY if expiry is None else expiry
        return Party(signer, certify(self.registry, self.domain, role, signer.key, until, custodian, key_set))

    def key_set(self, size: int = 3) -> tuple[list[Party], list[bytes]]:
        """Return the parties of a 2-of-n key set and the set as it will be shown; the first is the holder."""
        keys = [AccountKey.new() for _ in range(size)]
        shown = [key_id(key.key) for key in keys]
        return [self.party(Role.BANK, key_set=key_set_hash(shown), key=key) for key in keys], shown

    def late(self) -> int:
        """A `notAfter` that is far off."""
        return self.time + 1_000 * DAY

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


@dataclass
class Document:
    """One receivable as its parties know it, with the calls that concern it."""

    world: World
    owner: Party
    obligor: Party
    names: list[bytes] = field(default_factory=lambda: [os.urandom(32)])
    terms: bytes = field(default_factory=lambda: os.urandom(32))
    doc_root: bytes = field(default_factory=lambda: os.urandom(32))
    contract_tag: bytes = NO_CONTRACT
    due: int | None = None
    claim: bytes = b""
    body: Body | None = None
    liens: dict[bytes, Party] = field(default_factory=dict)

    @classmethod
    def new(cls, world: World, **more: Any) -> Document:
        """A document of a fresh supplier and a fresh obligor."""
        owner = more.pop("owner", None) or world.party(Role.SUPPLIER)
        obligor = more.pop("obligor", None) or world.party(Role.OBLIGOR)
        return cls(world, owner, obligor, **more)

    def tags(self, epochs: Iterable[int] | None = None, names: Iterable[bytes] | None = None) -> list[TagSet]:
        """Tags of all names, each epoch; the tag function is a hash here, since tags are opaque."""
        if epochs is None:
            settings = self.world.view("settings")
            epochs = range(settings[4], settings[5] + 1)
        return [
            TagSet.of(
                epoch,
                (hashlib.sha256(epoch.to_bytes(2, "big") + name).digest() for name in names or self.names),
            )
            for epoch in epochs
        ]

    def draft(
        self, tags: list[TagSet] | None = None, member: Party | None = None, **other: Any
    ) -> tuple[bytes, Opening]:
        """Anchor a draft of this document; returns its id and where it lies."""
        salt = os.urandom(32)
        fields = {
            "owner": self.owner.key_id,
            "tags_hash": tags_hash(self.tags() if tags is None else tags),
            "terms_hash": self.terms,
            "doc_root": self.doc_root,
            "contract_tag": self.contract_tag,
            "salt": salt,
        }
        one = Draft(**{**fields, **other})
        return one.claim_id(), replace(self.world.anchor(one.claim_id(), member=member), salt=salt)

    def ticket(self, bank: Party) -> tuple[bytes, Opening]:
        """Anchor a bank's ticket; returns it and where it lies."""
        one = Ticket(os.urandom(32), bank.key_id, os.urandom(32))
        return one.ticket, replace(self.world.anchor(one.leaf(), kind=2), salt=one.salt)

    def due_week(self) -> int:
        """The due week, twelve weeks ahead unless set."""
        return self.world.week(12) if self.due is None else self.due

    def confirm_call(
        self, draft: tuple[bytes, Opening], tags: list[TagSet] | None = None, **other: Any
    ) -> list[Any]:
        """Arguments of `confirm`; fields of the statement may be replaced."""
        w, sets = self.world, self.tags() if tags is None else tags
        signers = {"owner": other.pop("owner", self.owner), "obligor": other.pop("obligor", self.obligor)}
        intent = ConfirmIntent(
            draft[0],
            self.terms,
            self.doc_root,
            tags_hash(sets),
            self.contract_tag,
            self.obligor.key_id,
            self.due_week(),
            new_nonce(),
            w.late(),
        )
        intent = replace(intent, **other)
        return [
            intent,
            signers["owner"].sign(w.domain, intent),
            signers["obligor"].sign(w.domain, intent),
            draft[1],
            list(sets),
        ]

    def confirm(self, **other: Any) -> Outcome:
        """Anchor, wait one block, confirm."""
        draft = self.draft()
        self.world.pass_time()
        outcome = self.world.submit("confirm", *self.confirm_call(draft, **other))
        if outcome.ok:
            self.claim = draft[0]
            self.body = Body(
                self.owner.key_id, self.obligor.key_id, self.terms, self.doc_root, self.contract_tag
            )
        return outcome

    def attest_call(
        self, draft: tuple[bytes, Opening], ticket: tuple[bytes, Opening], bank: Party, ppm: int, **other: Any
    ) -> list[Any]:
        """Arguments of `attest`."""
        w, sets = self.world, other.pop("tags", None) or self.tags()
        owner = other.pop("owner", self.owner)
        intent = AttestIntent(
            draft[0],
            self.terms,
            self.doc_root,
            tags_hash(sets),
            self.contract_tag,
            bank.key_id,
            self.due_week(),
            ppm,
            os.urandom(32),
            ticket[0],
            ZERO,
            new_nonce(),
            w.late(),
        )
        intent = replace(intent, **other)
        return [
            intent,
            owner.sign(w.domain, intent),
            bank.sign(w.domain, intent),
            draft[1],
            ticket[1],
            list(sets),
        ]

    def attest(self, bank: Party, ppm: int = FULL, **other: Any) -> Outcome:
        """Anchor draft and ticket, wait one block, attest."""
        draft, ticket = self.draft(), self.ticket(bank)
        self.world.pass_time()
        call = self.attest_call(draft, ticket, bank, ppm, **other)
        outcome = self.world.submit("attest", *call)
        if outcome.ok:
            self.claim = draft[0]
            self.body = Body(self.owner.key_id, ZERO, self.terms, self.doc_root, self.contract_tag)
            self.liens[self.world.domain.digest(call[0].struct_hash())] = bank
        return outcome

    def pledge_call(self, bank: Party, ppm: int, tags: list[TagSet] | None = None, **other: Any) -> list[Any]:
        """Arguments of `pledge`; fields of the consent may be replaced, and `bank_ppm`, `signer`, `body`."""
        w, sets = self.world, self.tags() if tags is None else tags
        signer, body = other.pop("signer", self.owner), other.pop("body", self.body)
        taken, late = other.pop("bank_ppm", ppm), other.pop("bank_not_after", w.late())
        consent = PledgeConsent(
            self.claim,
            w.status(self.claim)["version"],
            body.terms_hash,
            body.doc_root,
            body.contract_tag,
            bank.key_id,
            ppm,
            os.urandom(32),
            ZERO,
            0,
            new_nonce(),
            w.late(),
        )
        consent = replace(consent, **other)
        lien_id = w.domain.digest(consent.struct_hash())
        intent = PledgeIntent(consent.claim_id, lien_id, taken, tags_hash(sets), late)
        return [
            consent,
            intent,
            signer.sign(w.domain, consent),
            bank.sign(w.domain, intent),
            body,
            list(sets),
        ]

    def pledge(self, bank: Party, ppm: int, **other: Any) -> Outcome:
        """Pledge to a bank with the owner's consent."""
        outcome = self.world.submit("pledge", *self.pledge_call(bank, ppm, **other))
        if outcome.ok:
            self.liens[outcome.data] = bank
        return outcome

    def holder(self, lien_id: bytes, intent: Intent) -> Any:
        """The consent of a lien's single-key holder."""
        bank = self.liens[lien_id]
        return holder_auth(lien_id, bank.key_id, [bank.sign(self.world.domain, intent)])

    def holders(self, intent: Intent) -> list[Any]:
        """The consents of all holders, in the order the contract wants."""
        return [self.holder(lien_id, intent) for lien_id in sorted(self.liens)]

    def release(self, lien_id: bytes, **other: Any) -> Outcome:
        """Release a lien of a single-key holder."""
        intent = ReleaseIntent(self.claim, lien_id, new_nonce(), self.world.late())
        auth = other.get("auth") or self.holder(lien_id, intent)
        outcome = self.world.submit("release", intent, auth, self.body)
        if outcome.ok:
            del self.liens[lien_id]
        return outcome

    def version(self) -> int:
        """The claim's version."""
        found: int = self.world.status(self.claim)["version"]
        return found

    def settle_free(self, new_cap: int, signers: list[Party] | None = None) -> Outcome:
        """A payment to the owner."""
        w = self.world
        intent = SettleFreeIntent(self.claim, self.version(), new_cap, new_nonce(), w.late())
        obligors = [self.obligor] if signers is None else signers
        return w.submit(
            "settleFree",
            intent,
            self.owner.sign(w.domain, intent),
            [one.sign(w.domain, intent) for one in obligors],
            self.body,
        )

    def settle_lien(self, lien_id: bytes, new_lien: int, new_cap: int, payer: Party | None = None) -> Outcome:
        """A payment to a holder."""
        w = self.world
        intent = SettleLienIntent(
            self.claim, self.version(), lien_id, new_lien, new_cap, new_nonce(), w.late()
        )
        paid = (payer or self.obligor).sign(w.domain, intent)
        outcome = w.submit("settleLien", intent, paid, self.holder(lien_id, intent), self.body)
        if outcome.ok and new_lien == 0:
            del self.liens[lien_id]
        return outcome

    def credit_note(self, new_cap: int, signer: Party | None = None, holders: bool = False) -> Outcome:
        """A reduction of the payable."""
        w = self.world
        intent = CreditNoteIntent(self.claim, self.version(), new_cap, os.urandom(32), new_nonce(), w.late())
        signed = (signer or self.obligor).sign(w.domain, intent)
        return w.submit("creditNote", intent, signed, self.holders(intent) if holders else [], self.body)


def names_holder(bank: Party) -> bytes:
    """How a lien names a single-key holder."""
    return holder_ref(bank.key_id)
