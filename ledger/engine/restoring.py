"""Getting a lost log back from a member's replica.

The operator's own signature says what its log was: records are taken only under a checkpoint that the operator
signed and the member cosigned. What was acknowledged after that checkpoint is lost here and stands in the outboxes
of those who sent it; they send it again.
"""

from __future__ import annotations

from pathlib import Path

import httpx

from ledger.engine import evidence
from ledger.engine.genesis import Genesis
from ledger.engine.log import DurableLog
from ledger.engine.replica import unframe
from protocol.errors import ConfigurationError, ProtocolError, Unavailable
from protocol.merkle import Frontier

_RECORDS = 200


def restore(data: Path, genesis: Genesis, member: str, client: httpx.Client) -> int:
    """Fill an empty ledger folder with the log that a member keeps; return the number of records.

    Args:
        data: folder without a log.
        genesis: the checked genesis document.
        member: URL of a member.
        client: HTTP client.

    Raises:
        ConfigurationError: ``RESTORE_NOT_EMPTY`` if a log lies there.
        Unavailable: ``PEER_SILENT``, ``PEER_REFUSES``.
        ProtocolError: ``RESTORE_DIFFERS`` if the records are not those under the checkpoint; nothing was written.
    """
    if (data / "log.sqlite").exists():
        raise ConfigurationError(
            "RESTORE_NOT_EMPTY", "A log lies in this folder.", "Move log.* away, and keep it: it is evidence."
        )
    base = member.rstrip("/")
    statement = evidence.read(_get(client, f"{base}/checkpoint").decode("utf-8", "replace"), genesis)
    if not statement.members:
        raise ProtocolError("RESTORE_DIFFERS", "No member has cosigned this checkpoint.")
    bodies: list[bytes] = []
    frontier = Frontier()
    while frontier.size < statement.size:
        count = min(_RECORDS, statement.size - frontier.size)
        part = unframe(_get(client, f"{base}/log?start={frontier.size}&count={count}"))
        if not part:
            break
        for body in part:
            frontier.append(body)
        bodies += part
    if frontier.size != statement.size or frontier.root() != statement.checkpoint.root:
        raise ProtocolError("RESTORE_DIFFERS", "The member's records are not those under its checkpoint.")
    log = DurableLog(data)
    try:
        for body in bodies:
            log.append(body)
    finally:
        log.close()
    return len(bodies)


def _get(client: httpx.Client, url: str) -> bytes:
    try:
        response = client.get(url)
    except httpx.HTTPError as error:
        raise Unavailable("PEER_SILENT", "The member does not answer.") from error
    if response.status_code != 200:
        raise Unavailable("PEER_REFUSES", f"The member answers with status {response.status_code}.")
    return response.content
