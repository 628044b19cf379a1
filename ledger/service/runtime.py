"""One running service: its parts, its background work, and what its two doors share."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from ledger.commitments import FULL
from ledger.engine.serving import Listen
from ledger.index.folding import ENDS, GRADES, flag_names
from ledger.invoice import minor_units
from ledger.service.answering import Answering
from ledger.service.config import ServiceConfig
from ledger.service.desk import Desk
from ledger.service.kernel import Kernel, build
from ledger.service.tray import Request, Tray
from ledger.service.worker import Worker
from ledger.webhooks import Deliveries, Target, read_secret
from protocol.errors import DataError, LedgerError


class Runtime:
    """Everything of one service."""

    def __init__(self, config: ServiceConfig) -> None:
        """Wire the service.

        Raises:
            ConfigurationError: a file or key is wrong.
        """
        self.config = config
        self.kernel: Kernel = build(config)
        self.tray = Tray(self.kernel.engine, self.kernel.wallet)
        self.desk = Desk(self.kernel, self.tray)
        self.answering = Answering(self.desk)
        targets = [
            Target(each.url, read_secret(config.secret(each.secret_file)), tuple(each.events))
            for each in config.webhooks
        ]
        self.deliveries = Deliveries(self.kernel.engine, targets, self.kernel.client)
        self.worker = Worker(self.desk, self.deliveries)
        self.operator_token = config.secret(config.operator_token_file)
        self.operator_digest = hashlib.sha256(self.operator_token.encode()).digest()
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def listen(self) -> Listen:
        """Where to listen.

        Raises:
            ConfigurationError: beyond loopback without mutual TLS.
        """
        section, path = self.config.listen, self.config.path
        pair = [None if each is None else path(each) for each in (section.certificate, section.key)]
        clients = None if section.clients is None else path(section.clients)
        return Listen(section.host, section.port, pair[0], pair[1], clients, frozenset(section.names))

    @property
    def hosts(self) -> frozenset[str]:
        """Host names that requests may carry."""
        return self.listen.hosts

    async def run(self) -> None:
        """Do the background work until cancelled; one pass at a time, in a thread."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            pause = await asyncio.to_thread(self.worker.tick)
            try:
                await asyncio.wait_for(self._wake.wait(), pause)
            except TimeoutError:
                continue

    def wake(self) -> None:
        """Have the background work begin at once; from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)

    def health(self) -> dict[str, Any]:
        """Return what an operator watches."""
        worker = self.worker
        return {
            "status": "ok" if worker.fresh else "unknown",
            "institution": self.kernel.name,
            "roles": list(self.config.institution.roles),
            "problem": worker.problem.code if worker.problem else "",
            "final": worker.height,
            "indexed": worker.follower.height,
            "reorganisations": worker.follower.reorganisations,
            "waiting": len(self.kernel.outbox.open(1_000)),
            "webhooks": self.deliveries.counts(),
        }

    def minor(self, claim: bytes, amount: str | None) -> int:
        """Return an amount in the minor units of a receivable's currency.

        Raises:
            DataError: ``AMOUNT``.
            LedgerError: ``RECEIVABLE_UNKNOWN``.
        """
        currency = str(self.tray.receivable(claim).content["dossier"]["invoice"]["currency"])
        try:
            return minor_units(amount or "", currency)
        except ValueError:
            raise DataError("AMOUNT", "amount: it is no amount of the receivable's currency.") from None

    def ask(
        self, claim: bytes, kind: str, to: str, ppm: int | None, amount: str | None, key: str = ""
    ) -> Request:
        """Begin an action that another institution signs too; the same idempotency key again begins none.

        Raises:
            DataError: ``REQUEST_KIND``, ``AMOUNT``.
            ConcordatError: as `Desk`.
        """
        desk = self.desk
        kinds = ("settle-lien", "settle-free") if kind == "settle" else (kind,)
        known = desk.known(key, to, kinds, claim)
        if known is not None:
            return known
        if kind == "confirm":
            return desk.ask_confirmation(claim, to, key)
        if kind == "attest":
            return desk.ask_attestation(claim, to, FULL if ppm is None else ppm, key)
        if kind == "pledge":
            return desk.consent(claim, to, FULL if ppm is None else ppm, key)
        if kind == "transfer":
            return desk.ask_transfer(claim, to, key)
        if kind == "settle":
            return desk.settle(claim, to, self.minor(claim, amount), key)
        raise DataError(
            "REQUEST_KIND", "This kind of request is not known.", "confirm, attest, pledge, transfer, settle."
        )

    def claim(self, claim: bytes) -> dict[str, Any]:
        """Return what the ledger says of a claim that need not be this institution's."""
        status = self.desk.standing.status(claim)
        if not status["known"]:
            raise LedgerError("LEDGER_UNKNOWN_CLAIM", "The ledger has no such claim.")
        return {
            "claim": claim.hex(),
            "grade": GRADES[status["grade"]],
            "end": ENDS[status["end"]],
            "flags": flag_names(status["flags"]),
            "shares": {name: status[name] for name in ("cap", "pledged", "free", "settled", "credited")},
            "due_week": status["due_week"],
            "timeline": self.desk.standing.timeline(claim),
            "final": self.worker.height,
        }

    def verify(self, digest: bytes) -> dict[str, Any]:
        """Judge a file by its SHA-256: integrity, issuer, status and grade, each by itself."""
        found = self.tray.by_file(digest)
        verdicts = []
        for receivable in found:
            described = self.desk.standing.describe(receivable)
            known = described["grade"] != "none"
            intact = True
            if known:
                body = self.kernel.body(receivable.claim)
                intact = self.desk.standing.documents(receivable) == body.doc_root
            verdicts.append(
                {
                    "claim": described["claim"],
                    "integrity": "intact" if intact else "other version",
                    "issuer": "signed by the owner's certified key" if known else "not claimed yet",
                    "status": described["state"],
                    "flags": described["flags"],
                    "grade": described["grade"],
                }
            )
        return {"file": digest.hex(), "known": bool(found), "verdicts": verdicts}
