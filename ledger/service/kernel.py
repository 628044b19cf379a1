"""What a ledger service is made of, wired in one place.

Everything that a decision rests on goes through `view`, which asks at a final block and raises when that can't be told;
everything that is sent goes through `submit`, which makes it durable first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import httpx
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from ledger.abi import decode_result, encode_call
from ledger.client.embedded import EmbeddedChain
from ledger.client.outbox import Outbox
from ledger.client.outbox import connect as connect_outbox
from ledger.client.ports import Chain, Signer
from ledger.client.pump import Pump
from ledger.client.raw import RawChain
from ledger.client.reading import ChainReader
from ledger.client.refusals import code_of
from ledger.client.signer import LocalSigner
from ledger.client.submission import Submission
from ledger.client.web3signer import RemoteKey, RemoteSigner
from ledger.commitments import Body
from ledger.eip712 import Domain
from ledger.engine.folder import read_genesis
from ledger.engine.operating import Trust
from ledger.index import tables
from ledger.keyring import Keyring
from ledger.service.config import ServiceConfig
from ledger.service.peers import Peers
from ledger.service.wallet import ROLES, Wallet, read_certificates, read_public_keys
from ledger.signers import Key, Role
from ledger.tags import KeeperKeys, SingleKey, TagFunction
from protocol import group
from protocol.errors import ConfigurationError, LedgerError, Unavailable

GAS = 4_000_000
"""Gas limit of an action; nothing is paid for it."""

INDEX_PATIENCE = 5.0
"""Seconds for which an index that lags is waited for."""

_BODY_HASH = 19
"""Place of the body's hash in what ``statusOf`` gives."""


@dataclass(frozen=True)
class Where:
    """Which ledger.

    Attributes:
        domain: where statements count.
        contract: the ledger's address, 20 bytes.
        node: JSON-RPC address of the node that is believed.
    """

    domain: Domain
    contract: bytes
    node: str


@dataclass(frozen=True)
class Kernel:
    """The parts of one service."""

    config: ServiceConfig
    engine: Engine
    where: Where
    chain: Chain
    reader: ChainReader
    outbox: Outbox
    pump: Pump
    sender: Signer
    wallet: Wallet
    tags: TagFunction
    keeper: KeeperKeys | None
    peers: Peers
    client: httpx.Client

    @property
    def name(self) -> str:
        """The institution's name."""
        return self.config.institution.name

    def plays(self, role: Role) -> bool:
        """Return whether the institution signs in a role."""
        return any(ROLES[each] is role for each in self.config.institution.roles)

    def view(self, function: str, *arguments: Any) -> tuple[Any, ...]:
        """Return what a view of the ledger gives at the newest final block.

        Raises:
            LedgerError: ``LEDGER_HALTED``.
            Unavailable: unknown, never "free".
        """
        return decode_result(
            function, self.chain.view(self.where.contract, encode_call(function, arguments))[0]
        )

    def submit(self, key: str, function: str, *arguments: Any) -> Submission:
        """Sign a call of the ledger and make it durable; the worker sends it."""
        return self.outbox.add(key, self.sender, self.where.contract, encode_call(function, arguments), GAS)

    def sent(self, key: str) -> bool:
        """Return whether a call is in the outbox already."""
        try:
            self.outbox.get(key)
        except LedgerError:
            return False
        return True

    def close(self) -> None:
        """Close the databases and the HTTP client."""
        self.engine.dispose()
        self.outbox.close()
        self.client.close()

    def body(self, claim: bytes) -> Body:
        """Return what a claim is about: the index' copy, if it has the hash that the chain keeps.

        The index follows a moment later; it is waited for.

        Raises:
            LedgerError: ``LEDGER_UNKNOWN_CLAIM``.
            Unavailable: ``INDEX_BEHIND``, or as `view`.
        """
        end = time.monotonic() + INDEX_PATIENCE
        while True:
            status = self.view("statusOf", claim)[0]
            if not status[0]:
                raise LedgerError("LEDGER_UNKNOWN_CLAIM", "The ledger has no such claim.")
            body = self._indexed_body(claim)
            if body is not None and body.digest() == status[_BODY_HASH]:
                return body
            if time.monotonic() > end:
                raise Unavailable(
                    "INDEX_BEHIND",
                    "The index does not have what the chain says of this claim.",
                    "If it stays so, `concordat ledger audit` names the difference.",
                )
            time.sleep(0.1)

    def _indexed_body(self, claim: bytes) -> Body | None:
        with self.engine.begin() as db:
            row = db.execute(sa.select(tables.claims).where(tables.claims.c.claim == claim)).one_or_none()
        if row is None:
            return None
        names = ("owner", "obligor", "terms_hash", "doc_root", "contract_tag", "root")
        return Body(*(bytes(getattr(row, name)) for name in names))


def build(config: ServiceConfig) -> Kernel:
    """Wire a service; decrypts its keyring, which is done once per process.

    Raises:
        ConfigurationError: a file or key of the configuration is wrong.
    """
    tls = [
        None if path is None else config.path(path)
        for path in (config.tls.authorities, config.tls.certificate)
    ]
    key = None if config.tls.key is None else config.path(config.tls.key)
    client = Trust(tls[0], tls[1], key).blocking_client()
    where, chain = _chain(config, client)
    engine = tables.connect(config.database_url(config.database))
    keyring = Keyring.load(config.path(config.keys.folder))
    outbox = Outbox(connect_outbox(config.database_url(config.outbox)))
    certificates = read_certificates(config.path(config.keys.certificates))
    public_keys = read_public_keys(config.path(config.keys.certificates)) if config.keys.web3signer else {}
    sender = _sender(config, keyring, where.domain.chain_id, client)

    def account(purpose: str, index: int) -> Key:
        if not config.keys.web3signer:
            return keyring.account(purpose, index)
        role = Role(int(purpose.removeprefix("role/")))
        return RemoteKey(config.keys.web3signer, public_keys.get((role, index), b""), client)

    wallet = Wallet(engine, account, certificates, keyring.secret("sealing"))
    peers = Peers(config, client)
    keeper = _keeper(config, where.domain.consortium)
    public = {
        int(epoch): group.decode_element(bytes.fromhex(key)) for epoch, key in config.tags.public_keys.items()
    }
    ask = keeper.evaluate if keeper is not None else peers.keeper(config.tags.keeper)
    pump = Pump(outbox, chain, {sender.address: sender}, code_of)
    reader = ChainReader(where.node, client)
    function = SingleKey(public, ask)
    return Kernel(
        config, engine, where, chain, reader, outbox, pump, sender, wallet, function, keeper, peers, client
    )


def _chain(config: ServiceConfig, client: httpx.Client) -> tuple[Where, Chain]:
    section = config.chain
    if section.kind == "embedded":
        if section.genesis is None or not section.gateway or not section.member:
            raise ConfigurationError(
                "CHAIN_CONFIG", "An embedded chain needs chain.genesis, chain.gateway and chain.member."
            )
        genesis = read_genesis(config.path(section.genesis).parent)
        if genesis.registry is None:
            raise ConfigurationError("CHAIN_BARE", "The genesis document deploys no ledger.")
        address = genesis.registry.address
        domain = Domain(genesis.chain.chain_id, address, genesis.consortium)
        where = Where(domain, address, section.member)
        return where, EmbeddedChain(genesis, section.gateway, section.member, client)
    try:
        contract, consortium = bytes.fromhex(section.contract), bytes.fromhex(section.consortium)
        domain = Domain(section.chain_id, contract, consortium)
        domain.separator()
    except ValueError as error:
        raise ConfigurationError(
            "CHAIN_CONFIG",
            "A chain of validators needs chain.node, chain.chain_id, chain.contract and chain.consortium.",
        ) from error
    raw = RawChain(section.node, client, depth=section.depth, max_age=section.max_age)
    return Where(domain, contract, section.node), raw


def _sender(config: ServiceConfig, keyring: Keyring, chain_id: int, client: httpx.Client) -> Signer:
    if config.keys.web3signer:
        try:
            public = bytes.fromhex(config.keys.sender.removeprefix("0x"))
        except ValueError:
            public = b""
        return RemoteSigner(config.keys.web3signer, public, chain_id, client)
    return LocalSigner(keyring.account("sender").secret, chain_id)


def _keeper(config: ServiceConfig, consortium: bytes) -> KeeperKeys | None:
    if config.tags.seed_file is None:
        return None
    seed = bytes.fromhex(config.secret(config.tags.seed_file))
    return KeeperKeys(seed, consortium, tuple(sorted(int(epoch) for epoch in config.tags.public_keys)))
