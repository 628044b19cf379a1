"""A member's process: pull the operator's log, replay it, cosign, ask the peers, and serve what it found.

What a step does, in this order: read the operator's newest statement; take each checkpoint of its chain in turn,
with the records up to it, through the witness' rules and the own engine; cosign; then read what peers have cosigned
and which evidence they keep. Everything that is served to others was checked here first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import httpx

from ledger.engine import evidence, records
from ledger.engine.chain import Chain
from ledger.engine.checkpoints import compose
from ledger.engine.evidence import Evidence, Statement
from ledger.engine.records import BlockRecord
from ledger.engine.witness import Witness
from protocol.errors import ConcordatError, ProtocolError, Unavailable

POLL = 0.5
"""Seconds between steps."""

MAX_ANSWER = 64 << 20
"""Bytes of one answer that are read."""

_CHECKPOINTS = 50
_RECORDS = 200


class Replica:
    """Follows one operator and hears several peers."""

    def __init__(
        self,
        chain: Chain,
        witness: Witness,
        operator: str,
        peers: Mapping[str, str],
        client: httpx.AsyncClient,
        poll: float = POLL,
    ) -> None:
        """Connect nothing yet.

        Args:
            chain: this member's own log and engine.
            witness: its rules and book.
            operator: URL of the gateway.
            peers: URLs by member name.
            client: HTTP client, with the consortium's certificates where TLS is used.
            poll: seconds between steps.
        """
        self.chain = chain
        self.witness = witness
        self._operator = operator.rstrip("/")
        self._peers = {name: url.rstrip("/") for name, url in peers.items()}
        self._client = client
        self._poll = poll
        self.problems: dict[str, str] = {}

    async def run(self) -> None:
        """Step until cancelled. After evidence it only goes on serving."""
        while True:
            await self.step()
            await asyncio.sleep(self._poll)

    async def step(self) -> None:
        """Follow the operator once and hear every peer once; remember who could not be used and why."""
        await self._attempt("operator", self._follow)
        await asyncio.gather(*(self._attempt(name, partial(self._hear, name)) for name in self._peers))

    async def _attempt(self, who: str, action: Callable[[], Awaitable[None]]) -> None:
        try:
            self.witness.check_running()
            await action()
        except ConcordatError as error:
            self.problems[who] = error.code
            if error.code in ("ENGINE_GONE", "LOG_WRITE", "LOG_CORRUPT"):
                raise  # our own store or engine failed: stop the process
        else:
            self.problems.pop(who, None)

    async def _follow(self) -> None:
        newest = evidence.read(await self._text(self._operator, "/checkpoint"), self.chain.genesis)
        self.witness.observe(newest)
        while self.witness.book.tip[0] < newest.size:
            offered = await self._list(f"{self._operator}/checkpoints?after={self.witness.book.tip[0]}")
            if not offered:
                raise Unavailable(
                    "CHECKPOINT_WITHHELD", "The operator does not show its chain of checkpoints."
                )
            for text in offered:
                await self._take(evidence.read(text, self.chain.genesis))
        self.witness.check_known(newest)
        self.witness.settle(newest)

    async def _take(self, statement: Statement) -> None:
        self.witness.check_next(statement)
        for body in await self._records(statement):
            record = records.decode(body)
            if not isinstance(record, BlockRecord):
                raise records.malformed()
            self.witness.check_record(record, self.chain.head.time, statement)
            try:
                await self.chain.follow(body)
            except ConcordatError as error:
                if error.code in ("REPLAY_DIFFERS", "ENGINE_FAULT", "RECORD_PLACE"):
                    raise self.witness.disagree(error, statement) from error
                raise
        own = await compose(self.chain, statement.size, self.witness.book.tip[1])
        self.witness.accept(statement, own)

    async def _records(self, statement: Statement) -> list[bytes]:
        """Return the records that this log lacks under a checkpoint, from the operator or else from a peer.

        Only records under the signed root are returned, so nobody can pass off others as the operator's.
        """
        problem: ConcordatError = Unavailable(
            "RECORDS_WITHHELD", "Nobody shows the records under the newest checkpoint."
        )
        for base in (self._operator, *self._peers.values()):
            try:
                found = await self._records_of(base, statement.size)
            except ConcordatError as error:
                problem = error
                continue
            frontier = self.chain.log.tree.frontier()
            for body in found:
                frontier.append(body)
            if frontier.size == statement.size and frontier.root() == statement.checkpoint.root:
                return found
        raise problem

    async def _records_of(self, base: str, size: int) -> list[bytes]:
        found: list[bytes] = []
        while (start := len(self.chain.log) + len(found)) < size:
            part = unframe(await self._get(f"{base}/log?start={start}&count={min(_RECORDS, size - start)}"))
            if not part:
                break
            found += part
        return found

    async def _hear(self, peer: str) -> None:
        base, book = self._peers[peer], self.witness.book
        for item in await self._list(f"{base}/evidence"):
            self.witness.hear_evidence(Evidence.from_json(item))
        newest = evidence.read(await self._text(base, "/checkpoint"), self.chain.genesis)
        for text in await self._list(f"{base}/checkpoints?after={min(book.known(peer), book.tip[0])}"):
            statement = evidence.read(text, self.chain.genesis)
            self.witness.hear(peer, statement)
            if statement.size > book.tip[0]:
                break
        self.witness.hear(peer, newest)

    async def _text(self, base: str, path: str) -> str:
        try:
            return (await self._get(base + path)).decode()
        except UnicodeDecodeError as error:
            raise ProtocolError("PEER_ANSWER", "An answer is not text.") from error

    async def _list(self, url: str) -> list[Any]:
        try:
            found = json.loads(await self._get(url))
        except (ValueError, RecursionError) as error:
            raise ProtocolError("PEER_ANSWER", "An answer is not JSON.") from error
        if not isinstance(found, list):
            raise ProtocolError("PEER_ANSWER", "An answer has another form.")
        return found

    async def _get(self, url: str) -> bytes:
        body = bytearray()
        try:
            async with self._client.stream("GET", url) as response:
                if response.status_code != 200:
                    raise Unavailable("PEER_REFUSES", f"A party answers with status {response.status_code}.")
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > MAX_ANSWER:
                        raise ProtocolError("PEER_ANSWER", "An answer is too long.")
        except httpx.HTTPError as error:
            raise Unavailable("PEER_SILENT", "A party does not answer.") from error
        return bytes(body)

    def health(self) -> dict[str, Any]:
        """Return what this member's operator watches."""
        size, _ = self.witness.book.tip
        found: dict[str, Any] = {
            "member": self.witness.name,
            "status": "halted" if self.witness.book.evidence() else "ok",
            "evidence": [each.kind for each in self.witness.book.evidence()],
            "cosigned": size,
            "records": len(self.chain.log),
            "head": {"number": self.chain.head.number, "hash": "0x" + self.chain.head.hash.hex()},
            "problems": dict(self.problems),
            "final": None,
        }
        with contextlib.suppress(ConcordatError):
            final = self.witness.final()
            found["final"] = {"size": final.size, "asOf": final.as_of, "behind": final.behind}
        return found


def unframe(data: bytes) -> list[bytes]:
    """Return records that were each put behind a length of four bytes.

    Raises:
        ProtocolError: ``PEER_ANSWER``.
    """
    at, found = 0, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 4 + size]
        if len(body) != size or len(data) < at + 4:
            raise ProtocolError("PEER_ANSWER", "An answer is cut off.")
        found.append(body)
        at += 4 + size
    return found
