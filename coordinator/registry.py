"""The registry of parties: invitations, enrolment, and the statements that bind a key to a role.

An operator invites a name for a role; the invitation's token is worth one enrolment. The party makes its keys
itself and asks with a request signed by its identity key; nothing private travels. Admission issues the registry's
statement and a client certificate, registers the Flower key, and opens the party's buckets on the exchange.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from coordinator.authority import Authority
from coordinator.config import CoordinatorConfig
from coordinator.store import Store
from protocol import document
from protocol.errors import ConfigurationError, NotApproved
from protocol.identity import Directory, IdentityKey, Party, PublicKey, Role, check_name, issue
from protocol.mailbox import COORDINATOR

STATEMENT_DAYS = 397
INVITATION_DAYS = 14


class Registry:
    """Admits parties and answers who they are.

    Args:
        admitted: called with a party's name after it was admitted (Flower key, buckets, the exchange's users).
    """

    def __init__(
        self,
        config: CoordinatorConfig,
        store: Store,
        authority: Authority,
        key: IdentityKey,
        own: IdentityKey,
        admitted: Callable[[Party], None],
    ) -> None:
        self._config, self._store = config, store
        self._authority, self._key, self._own = authority, key, own
        self._admitted = admitted
        self._lock = threading.Lock()

    @property
    def public(self) -> PublicKey:
        """The registry's public key."""
        return self._key.public

    def found(self) -> None:
        """State who the coordinator itself is, once."""
        if self._store.party(COORDINATOR) is None:
            statement = self._statement(COORDINATOR, Role.COORDINATOR, self._own.public, "")
            self._store.admit(COORDINATOR, Role.COORDINATOR.value, statement, "")

    def invite(self, name: str, role: str, *, admit: bool) -> dict[str, Any]:
        """Invite a party.

        Args:
            name: the party's name in this consortium.
            role: one of the registry's roles.
            admit: admit whoever shows the invitation; otherwise an operator admits after comparing fingerprints.

        Returns:
            The invitation, to be handed over privately.

        Raises:
            ConfigurationError: the name or role is impossible, or a party of that name is admitted already.
        """
        check_name(name)
        try:
            wanted = Role(role)
        except ValueError:
            known = ", ".join(r.value for r in Role if r is not Role.COORDINATOR)
            raise ConfigurationError(
                "ROLE_UNKNOWN", f"there is no role {role}", f"Roles are {known}."
            ) from None
        if name == COORDINATOR or wanted is Role.COORDINATOR:
            raise ConfigurationError("NAME_RESERVED", "the coordinator can't be invited")
        if self._store.party(name) is not None:
            raise ConfigurationError("PARTY_EXISTS", f"{name} is a member already")
        token = secrets.token_urlsafe(32)
        expires = int(time.time()) + INVITATION_DAYS * 86400
        self._store.invite(_digest(token), name, wanted.value, admit, expires)
        return {
            "consortium": self._config.consortium,
            "name": name,
            "role": wanted.value,
            "coordinator": self._config.public_address(),
            "exchange": self._config.exchange_address(),
            "authority": self._authority.certificate_pem().decode(),
            "registry_key": self.public.hex,
            "token": token,
            "expires_at": expires,
        }

    def enroll(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer an enrolment request: the membership, or that an operator has yet to admit the party.

        Raises:
            NotApproved: the invitation is unknown, used up or expired, or the request isn't what was invited.
            ProtocolError: the request is not signed by the key it names.
        """
        with self._lock:
            body = request.get("body")
            if not isinstance(body, dict) or not isinstance(body.get("identity"), str):
                raise NotApproved("ENROLMENT_MALFORMED", "the enrolment request can't be read")
            identity = PublicKey.from_hex(body["identity"])
            name = str(body.get("name"))
            body = document.verify(request, "enrolment", {name: identity}, [name])
            token = _digest(str(body.get("token")))
            invitation = self._store.invitation(token)
            if invitation is None or invitation["name"] != name or invitation["expires_at"] < time.time():
                raise NotApproved(
                    "INVITATION_INVALID",
                    "the invitation is unknown, expired or for another name",
                    "Ask the coordinator's operator for a new one.",
                )
            if set(body) != {"token", "name", "identity", "flower_key", "certificate_request"}:
                raise NotApproved(
                    "ENROLMENT_MALFORMED", "the enrolment request has unknown or missing fields"
                )
            if invitation["request"] and json.loads(invitation["request"]) != request:
                raise NotApproved("INVITATION_USED", "the invitation was used by another request")
            self._store.keep_request(token, request)
            if self._store.party(name) is None:
                if not invitation["admit"]:
                    return {"state": "pending", "fingerprint": identity.fingerprint}
                self._admit(body, invitation["role"])
            return self.membership(name)

    def admit(self, name: str, fingerprint: str) -> None:
        """Admit a party whose request is pending, after its fingerprint was compared with it by another channel.

        Raises:
            NotApproved: there is no such request, or its key has another fingerprint.
        """
        with self._lock:
            invitation = self._store.pending(name)
            if invitation is None:
                raise NotApproved("ENROLMENT_UNKNOWN", f"{name} has not asked to be admitted")
            body = json.loads(invitation["request"])["body"]
            if PublicKey.from_hex(body["identity"]).fingerprint != fingerprint:
                raise NotApproved(
                    "FINGERPRINT_DIFFERS",
                    f"the request of {name} is made with another key than the one of that fingerprint",
                    "Compare it with the party again before you invite anew.",
                )
            self._admit(body, invitation["role"])

    def _admit(self, body: dict[str, Any], role: str) -> None:
        name = body["name"]
        identity = PublicKey.from_hex(body["identity"])
        statement = self._statement(name, Role(role), identity, str(body["flower_key"]))
        certificate = self._authority.issue_client(str(body["certificate_request"]).encode(), name)
        party = self.directory([statement])[name]
        self._store.admit(name, role, statement, certificate.decode())
        self._admitted(party)

    def _statement(self, name: str, role: Role, identity: PublicKey, flower_key: str) -> dict[str, Any]:
        now = int(time.time())
        party = Party(
            name=name,
            role=role,
            identity=identity,
            flower_key=flower_key,
            valid_from=now - 600,
            valid_until=now + STATEMENT_DAYS * 86400,
            serial=self._store.next("statement"),
        )
        return issue(party, self._config.consortium, self._key)

    def membership(self, name: str) -> dict[str, Any]:
        """Return what a member needs: its certificate and everybody's statements."""
        party = self._store.party(name)
        if party is None:
            raise NotApproved("PARTY_UNKNOWN", f"{name} is no member")
        return {"state": "admitted", "certificate": party["certificate"], "directory": self.statements()}

    def statements(self) -> list[dict[str, Any]]:
        """Return the signed statements about all parties."""
        return [json.loads(row["statement"]) for row in self._store.list_parties()]

    def directory(self, more: list[dict[str, Any]] | None = None) -> Directory:
        """Return who is who at this moment."""
        return Directory.from_statements(
            [*self.statements(), *(more or [])], self._config.consortium, self.public, int(time.time())
        )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
