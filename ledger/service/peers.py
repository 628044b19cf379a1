"""Other institutions' services: what is asked of them, and how their refusals come back.

Each pair of institutions shares a token; over a network the connection is mutual TLS besides. What travels are
dossiers and statements that their signers have signed, so a peer can withhold but not forge.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import httpx

from ledger.service.config import ServiceConfig
from protocol.errors import ConfigurationError, LedgerError, NotApproved, ProtocolError, Unavailable


class Peers:
    """The institutions in a configuration."""

    def __init__(self, config: ServiceConfig, client: httpx.Client) -> None:
        """Read the tokens.

        Raises:
            ConfigurationError: a token file is missing or open to others.
        """
        self._client = client
        self._urls = {name: peer.url for name, peer in config.peers.items()}
        self._tokens = {name: config.secret(peer.token_file) for name, peer in config.peers.items()}

    def who(self, token: str) -> str:
        """Return the peer that a token belongs to.

        Raises:
            NotApproved: ``PEER_UNKNOWN``.
        """
        given = hashlib.sha256(token.encode()).digest()
        found = ""
        for name, known in self._tokens.items():
            if hmac.compare_digest(hashlib.sha256(known.encode()).digest(), given):
                found = name
        if not found:
            raise NotApproved("PEER_UNKNOWN", "No institution is known by this token.")
        return found

    def known(self, name: str) -> None:
        """Refuse a name that is none of a peer.

        Raises:
            ConfigurationError: ``PEER_NAME``.
        """
        if name not in self._urls:
            known = ", ".join(sorted(self._urls)) or "none"
            raise ConfigurationError(
                "PEER_NAME", "No institution of this name is configured.", f"Known: {known}."
            )

    def ask(self, name: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Post to a peer and return its answer.

        Raises:
            ConfigurationError: ``PEER_NAME``.
            LedgerError: the peer refuses; with its code.
            Unavailable: ``PEER_SILENT``, or the peer's own code.
        """
        self.known(name)
        headers = {"Authorization": f"Bearer {self._tokens[name]}"}
        try:
            answer = self._client.post(f"{self._urls[name]}/v1/peer/{path}", json=body, headers=headers)
            found = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(
                "PEER_SILENT", "The other institution's service does not answer.", "Ask again later."
            ) from error
        if not isinstance(found, dict):
            raise ProtocolError("PEER_ANSWER", "The other institution's answer has another form.")
        if answer.status_code >= 400:
            code, detail = str(found.get("title", "PEER_REFUSES"))[:80], str(found.get("detail", ""))[:400]
            kind = Unavailable if answer.status_code >= 500 else LedgerError
            raise kind(code, detail or "The other institution refuses.", str(found.get("hint", ""))[:400])
        return found

    def keeper(self, name: str) -> Callable[[int, bytes], bytes]:
        """Return how the keeper of the tag key is asked."""

        def ask(epoch: int, points: bytes) -> bytes:
            found = self.ask(name, "evaluations", {"epoch": epoch, "points": points.hex()})
            try:
                return bytes.fromhex(found["answer"])
            except (KeyError, TypeError, ValueError) as error:
                raise ProtocolError("PEER_ANSWER", "The keeper's answer has another form.") from error

        return ask
