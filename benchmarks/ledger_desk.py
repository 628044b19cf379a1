"""The real contracts behind a real gateway, and parties that sign for it: what `benchmarks.ledger` measures with.

Keys are used again and again here (one supplier, one obligor, one bank): certificates are made once, so that what is
measured is the ledger and not the making of keys.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coincurve
from eth_hash.auto import keccak

from benchmarks.ledger_engine import Gateway
from ledger import abi
from ledger.abi import Genesis, encode_call
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
    key_id,
    tags_hash,
)
from ledger.eip712 import Domain, new_nonce
from ledger.engine import ceremony
from ledger.engine import genesis as genesis_document
from ledger.engine import keys as ledger_keys
from ledger.engine.folder import write_genesis
from ledger.engine.genesis import sign_legacy
from ledger.intents import (
    AttestIntent,
    ConfirmIntent,
    PledgeConsent,
    PledgeIntent,
    ReleaseIntent,
    SettleFreeIntent,
)
from ledger.mandates import AnchorIntent
from ledger.signers import AccountKey, Party, Role, certify, holder_auth
from protocol import document
from protocol.checkpoint import Note, cosign
from protocol.merkle import MerkleTree

GAS = 1_500_000
LATE = 1 << 40
BATCH = 50


class RealGateway(Gateway):
    """A gateway process on the consortium's contracts, with one member: the operator."""

    def __init__(self, folder: Path, engine: str = "edr") -> None:
        self.folder = folder
        self.keys = ledger_keys.create(folder / "keys")
        me, self.registry = self.keys.member("operator"), AccountKey.new()
        council = tuple(sorted(key_id(AccountKey.new().key) for _ in range(3)))

        def creations(_chain: int, consortium: bytes, deployer: bytes) -> list[tuple[str, bytes]]:
            start = Genesis(consortium, self.registry.key, council, 2)
            return [(each.name, each.data) for each in abi.deployment(start, deployer)]

        built = ceremony.build(me, [me], int(time.time()), creations, registry="Ledger", engine=engine)
        signed = document.sign(genesis_document.KIND, asyncio.run(built), "operator", self.keys.identity)
        write_genesis(folder, signed)
        self.genesis = genesis_document.check(signed)
        self.chain_id = self.genesis.chain.chain_id
        if self.genesis.registry is None:
            raise RuntimeError("no registry")
        self.address = self.genesis.registry.address
        self.domain = Domain(self.chain_id, self.address, self.genesis.consortium)

    # ---- where proofs are made from

    def final_note(self) -> str:
        """The newest checkpoint, cosigned by the one member."""
        connection = self.connection()
        connection.request("GET", "/checkpoint")
        note = Note.decode(connection.getresponse().read().decode())
        name = f"{self.genesis.origin}/operator"
        return note.plus(cosign(note.text, name, self.keys.checkpoint, int(time.time()))).encode()

    def rpc(self, method: str, *params: Any) -> Any:
        """The result of a read."""
        return ask(self.connection(), [(method, list(params))])[0]


def ask(connection: http.client.HTTPConnection, calls: list[tuple[str, list[Any]]]) -> list[Any]:
    """Return the results of one JSON-RPC batch."""
    body = [
        {"jsonrpc": "2.0", "id": at, "method": name, "params": params}
        for at, (name, params) in enumerate(calls)
    ]
    answers = json.loads(_post(connection, json.dumps(body)))
    for one in answers:
        if "error" in one:
            raise RuntimeError(f"the gateway refused: {one['error']}")
    return [one["result"] for one in answers]


def _post(connection: http.client.HTTPConnection, body: str) -> bytes:
    for last in (False, True):
        try:
            connection.request("POST", "/", body, {"content-type": "application/json"})
            return connection.getresponse().read()
        except (ConnectionError, http.client.RemoteDisconnected):
            # An idle connection was closed; what was sent before is known by its hash and not done twice.
            connection.close()
            if last:
                raise
    raise AssertionError


class Sender:
    """A key that sends, and a connection of its own."""

    def __init__(self, gateway: RealGateway) -> None:
        self._gateway = gateway
        self._key = coincurve.PrivateKey()
        self.address = bytes(keccak(self._key.public_key.format(compressed=False)[1:])[12:])
        self._nonce = 0
        self._connection = gateway.connection()

    def sign(self, data: bytes) -> bytes:
        """A raw transaction with the next nonce."""
        raw = sign_legacy(self._key, self._gateway.chain_id, self._nonce, self._gateway.address, data, GAS)
        self._nonce += 1
        return raw

    def send(self, raws: list[bytes]) -> list[str]:
        """Send transactions in one request; returns their hashes."""
        return ask(self._connection, [("eth_sendRawTransaction", ["0x" + raw.hex()]) for raw in raws])

    def require_applied(self, hashes: list[str]) -> None:
        """Raise unless all were applied by the contract.

        Raises:
            RuntimeError: one was not.
        """
        for at in range(0, len(hashes), 200):
            chunk = hashes[at : at + 200]
            for receipt in ask(self._connection, [("eth_getTransactionReceipt", [one]) for one in chunk]):
                if receipt["status"] != "0x1":
                    data = self._gateway.rpc("concordat_getRevertData", receipt["transactionHash"])
                    raise RuntimeError(str(abi.decode_refusal(bytes.fromhex(data[2:]))))


@dataclass(frozen=True)
class Receivable:
    """One receivable with where its draft and ticket lie."""

    draft: Draft
    place: Opening
    ticket: bytes
    ticket_place: Opening
    sets: tuple[TagSet, ...]

    @property
    def claim(self) -> bytes:
        """The claim's id."""
        return self.draft.claim_id()


class Desk:
    """Parties and the calldata of their statements."""

    def __init__(self, gateway: RealGateway) -> None:
        self.domain, self._registry = gateway.domain, gateway.registry
        self.owner, self.obligor = self._party(Role.SUPPLIER), self._party(Role.OBLIGOR)
        self.bank, self.member = self._party(Role.BANK), self._party(Role.MEMBER)
        self._due = int(time.time()) // WEEK + 12

    def _party(self, role: Role) -> Party:
        key = AccountKey.new()
        return Party(key, certify(self._registry, self.domain, role, key.key, LATE))

    def anchor(self, root: bytes, count: int, kind: int = 1) -> bytes:
        """Calldata that anchors a root."""
        intent = AnchorIntent(kind, root, count, new_nonce(), LATE)
        return encode_call("anchor", [intent, self.member.sign(self.domain, intent)])

    def receivables(self, count: int) -> tuple[list[Receivable], list[bytes]]:
        """Fresh receivables, and the calldata that anchors their drafts and tickets."""
        drafts, tickets, sets = [], [], []
        for _ in range(count):
            sets.append((TagSet.of(1, [os.urandom(32)]),))
            fields = (os.urandom(32), os.urandom(32), NO_CONTRACT, os.urandom(32))
            drafts.append(Draft(self.owner.key_id, tags_hash(sets[-1]), *fields))
            tickets.append(Ticket(os.urandom(32), self.bank.key_id, os.urandom(32)))
        trees = [MerkleTree(each.claim_id() for each in drafts), MerkleTree(each.leaf() for each in tickets)]
        roots = [tree.root() for tree in trees]
        made = [
            Receivable(
                draft,
                Opening(draft.salt, self.member.key_id, roots[0], count, at, trees[0].inclusion_proof(at)),
                ticket.ticket,
                Opening(ticket.salt, self.member.key_id, roots[1], count, at, trees[1].inclusion_proof(at)),
                tags,
            )
            for at, (draft, ticket, tags) in enumerate(zip(drafts, tickets, sets, strict=True))
        ]
        return made, [self.anchor(roots[0], count, 1), self.anchor(roots[1], count, 2)]

    def body(self, one: Receivable, confirmed: bool = True) -> Body:
        """What its claim is about."""
        obligor = self.obligor.key_id if confirmed else ZERO
        return Body(self.owner.key_id, obligor, one.draft.terms_hash, one.draft.doc_root, NO_CONTRACT)

    def confirm(self, one: Receivable) -> bytes:
        """Calldata of `confirm`."""
        draft = one.draft
        intent = ConfirmIntent(
            one.claim,
            draft.terms_hash,
            draft.doc_root,
            draft.tags_hash,
            NO_CONTRACT,
            self.obligor.key_id,
            self._due,
            new_nonce(),
            LATE,
        )
        signers = [each.sign(self.domain, intent) for each in (self.owner, self.obligor)]
        return encode_call("confirm", [intent, *signers, one.place, list(one.sets)])

    def attest(self, one: Receivable, ppm: int = FULL) -> bytes:
        """Calldata of `attest`."""
        draft = one.draft
        intent = AttestIntent(
            one.claim,
            draft.terms_hash,
            draft.doc_root,
            draft.tags_hash,
            NO_CONTRACT,
            self.bank.key_id,
            self._due,
            ppm,
            os.urandom(32),
            one.ticket,
            ZERO,
            new_nonce(),
            LATE,
        )
        signers = [each.sign(self.domain, intent) for each in (self.owner, self.bank)]
        return encode_call("attest", [intent, *signers, one.place, one.ticket_place, list(one.sets)])

    def pledge(self, one: Receivable, ppm: int = 600_000) -> tuple[bytes, bytes]:
        """Calldata of `pledge` on a confirmed claim, and the lien's id."""
        consent = PledgeConsent(
            one.claim,
            0,
            one.draft.terms_hash,
            one.draft.doc_root,
            NO_CONTRACT,
            self.bank.key_id,
            ppm,
            os.urandom(32),
            ZERO,
            0,
            new_nonce(),
            LATE,
        )
        lien = self.domain.digest(consent.struct_hash())
        intent = PledgeIntent(one.claim, lien, ppm, one.draft.tags_hash, LATE)
        signed = [self.owner.sign(self.domain, consent), self.bank.sign(self.domain, intent)]
        return encode_call("pledge", [consent, intent, *signed, self.body(one), list(one.sets)]), lien

    def release(self, one: Receivable, lien: bytes) -> bytes:
        """Calldata of `release`."""
        intent = ReleaseIntent(one.claim, lien, new_nonce(), LATE)
        auth = holder_auth(lien, self.bank.key_id, [self.bank.sign(self.domain, intent)])
        return encode_call("release", [intent, auth, self.body(one)])

    def settle(self, one: Receivable) -> bytes:
        """Calldata that settles a free claim whole."""
        intent = SettleFreeIntent(one.claim, 0, 0, new_nonce(), LATE)
        owner, obligor = self.owner.sign(self.domain, intent), self.obligor.sign(self.domain, intent)
        return encode_call("settleFree", [intent, owner, [obligor], self.body(one)])
