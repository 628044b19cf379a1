"""Who a key belongs to: the registry's statements, and the directory a party builds from them.

Specification: a statement is a signed document (`protocol.document`) of kind ``party`` with the registry as
its only signer. It binds name, role, Ed25519 identity key and Flower key for a span of time within one
consortium.

Invariants:
    - A name has one statement and one key; a key, of either kind, has one name.
    - A fingerprint that the institutions exchanged out of band (a *pin*) wins over the registry: a registry
      that swaps a pinned key is refused.
    - A statement outside its span of time, or of another consortium, is refused.

What each party learns: everybody sees names, roles and public keys. Not protected: an unpinned key is as
trustworthy as the registry; a key stolen within its span works until its statement is withdrawn.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from protocol import document
from protocol.errors import ProtocolError, SignatureInvalid
from protocol.keys import IdentityKey, PublicKey

__all__ = ["NAME", "Directory", "IdentityKey", "Party", "PublicKey", "Role", "check", "check_name", "issue"]

NAME = r"[a-z][a-z0-9-]{1,39}"
"""The pattern of a party's name."""

REGISTRY = "registry"
"""The signer's name on statements."""

_OPENSSH_KEY = re.compile(r"(?:ssh|ecdsa)-[a-z0-9@.-]{1,60} [A-Za-z0-9+/]{20,2000}={0,2}(?: [ -~]{0,200})?")


class Role(StrEnum):
    """What a party does in the consortium."""

    BANK = "bank"
    ECOMMERCE = "e-commerce"
    GOVERNMENT = "government"
    COMPUTE = "compute"
    COORDINATOR = "coordinator"
    AUDITOR = "auditor"


def check_name(name: object) -> str:
    """Return a party's name if it follows the pattern.

    Raises:
        ProtocolError: ``PARTY_NAME``.
    """
    if not isinstance(name, str) or re.fullmatch(NAME, name) is None:
        raise ProtocolError(
            "PARTY_NAME",
            "A party's name must have 2 to 40 of a-z, 0-9 and '-', beginning with a letter.",
        )
    return name


@dataclass(frozen=True)
class Party:
    """A member of the consortium, as the registry states it.

    Attributes:
        name: pattern ``[a-z][a-z0-9-]{1,39}``.
        role: what it may do.
        identity: its signing key.
        flower_key: OpenSSH public key line of its SuperNode, or "".
        valid_from: first second (Unix time) in which the statement holds.
        valid_until: first second in which it no longer holds.
        serial: number of the statement at the registry.
    """

    name: str
    role: Role
    identity: PublicKey
    flower_key: str
    valid_from: int
    valid_until: int
    serial: int

    def __post_init__(self) -> None:
        check_name(self.name)
        if not isinstance(self.role, Role):
            raise ProtocolError("PARTY_ROLE", "A party's role is unknown.")
        if not isinstance(self.flower_key, str) or (
            self.flower_key and _OPENSSH_KEY.fullmatch(self.flower_key) is None
        ):
            raise ProtocolError(
                "PARTY_FLOWER_KEY", "A party's Flower key must be one OpenSSH public key line."
            )
        for number in (self.valid_from, self.valid_until, self.serial):
            if type(number) is not int or number < 0:
                raise ProtocolError("PARTY_MALFORMED", "Times and serial must be whole numbers.")
        if self.valid_from >= self.valid_until:
            raise ProtocolError("PARTY_VALIDITY", "A statement must begin before it ends.")


_FIELDS = {"consortium", "name", "role", "identity", "flower_key", "valid_from", "valid_until", "serial"}


def issue(party: Party, consortium: str, registry: IdentityKey) -> dict[str, Any]:
    """Return the registry's signed statement about a party.

    Args:
        party: what is stated.
        consortium: the consortium's name; a statement is worth nothing in another one.
        registry: the registry's key.
    """
    body = {
        "consortium": consortium,
        "name": party.name,
        "role": party.role.value,
        "identity": party.identity.hex,
        "flower_key": party.flower_key,
        "valid_from": party.valid_from,
        "valid_until": party.valid_until,
        "serial": party.serial,
    }
    return document.sign("party", body, REGISTRY, registry)


def check(statement: Mapping[str, Any], consortium: str, registry: PublicKey, now: int) -> Party:
    """Return the party of a statement that holds now.

    Args:
        statement: the signed document.
        consortium: the reader's consortium.
        registry: the registry's key as the reader has it.
        now: Unix time in seconds.

    Raises:
        SignatureInvalid: if the registry did not sign it, or ``PARTY_EXPIRED``.
        ProtocolError: ``PARTY_MALFORMED``, ``PARTY_CONSORTIUM`` or another code of a malformed field.
    """
    body = document.verify(statement, "party", {REGISTRY: registry}, {REGISTRY})
    if set(body) != _FIELDS:
        raise ProtocolError("PARTY_MALFORMED", "A statement has missing or unknown fields.")
    if body["consortium"] != consortium:
        raise ProtocolError("PARTY_CONSORTIUM", "A statement belongs to another consortium.")
    if not isinstance(body["role"], str) or body["role"] not in set(Role):
        raise ProtocolError("PARTY_ROLE", "A party's role is unknown.")
    party = Party(
        name=body["name"],
        role=Role(body["role"]),
        identity=PublicKey.from_hex(body["identity"]),
        flower_key=body["flower_key"],
        valid_from=body["valid_from"],
        valid_until=body["valid_until"],
        serial=body["serial"],
    )
    if not party.valid_from <= now < party.valid_until:
        raise SignatureInvalid(
            "PARTY_EXPIRED",
            f"The registry's statement about {party.name} does not hold at this time.",
            "Ask the registry for a new statement, and check this machine's clock.",
        )
    return party


def _key_blob(line: str | bytes) -> str:
    """Return type and key of an OpenSSH line without its comment, so that two spellings compare equal."""
    text = line.decode("ascii", "replace") if isinstance(line, bytes) else line
    return " ".join(text.split()[:2])


class Directory(Mapping[str, Party]):
    """The parties of a consortium that a reader accepts, by name."""

    def __init__(self, parties: Iterable[Party]) -> None:
        """Index parties that were checked already; prefer `from_statements`.

        Raises:
            ProtocolError: ``DIRECTORY_NAME_REPEATED`` or ``DIRECTORY_KEY_REPEATED``.
        """
        self._parties: dict[str, Party] = {}
        self._by_flower_key: dict[str, Party] = {}
        identities: set[bytes] = set()
        for party in parties:
            if party.name in self._parties:
                raise ProtocolError(
                    "DIRECTORY_NAME_REPEATED", f"There are two statements about {party.name}."
                )
            if party.identity.raw in identities:
                raise ProtocolError("DIRECTORY_KEY_REPEATED", f"{party.name} uses another party's key.")
            identities.add(party.identity.raw)
            if party.flower_key:
                blob = _key_blob(party.flower_key)
                if blob in self._by_flower_key:
                    raise ProtocolError(
                        "DIRECTORY_KEY_REPEATED", f"{party.name} uses another party's Flower key."
                    )
                self._by_flower_key[blob] = party
            self._parties[party.name] = party

    @classmethod
    def from_statements(
        cls,
        statements: Iterable[Mapping[str, Any]],
        consortium: str,
        registry: PublicKey,
        now: int,
        pins: Mapping[str, str] | None = None,
    ) -> Directory:
        """Check statements and index their parties.

        Args:
            statements: the registry's signed documents.
            consortium: the reader's consortium.
            registry: the registry's key.
            now: Unix time in seconds.
            pins: fingerprints of identity keys by name, exchanged out of band.

        Raises:
            SignatureInvalid: as `check`, or ``DIRECTORY_PIN`` if a key differs from its pin.
            ProtocolError: as `check` and the constructor.
        """
        parties = [check(statement, consortium, registry, now) for statement in statements]
        for party in parties:
            pin = (pins or {}).get(party.name)
            if pin is not None and not hmac.compare_digest(pin.encode(), party.identity.fingerprint.encode()):
                raise SignatureInvalid(
                    "DIRECTORY_PIN",
                    f"The registry states another key for {party.name} than the one exchanged out of band.",
                    "Compare the fingerprint with the institution by telephone before going on.",
                )
        return cls(parties)

    def __getitem__(self, name: str) -> Party:
        try:
            return self._parties[name]
        except KeyError:
            raise SignatureInvalid("PARTY_UNKNOWN", "A party is not in the directory.") from None

    def __contains__(self, name: object) -> bool:
        return name in self._parties

    def get(self, name: str, default: Any = None) -> Any:
        """Return a party, or the default."""
        return self._parties.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parties)

    def __len__(self) -> int:
        return len(self._parties)

    @property
    def keys_by_name(self) -> dict[str, PublicKey]:
        """Identity keys by name, as `protocol.document.verify` takes them."""
        return {name: party.identity for name, party in self._parties.items()}

    def with_role(self, role: Role) -> tuple[Party, ...]:
        """Return the parties of a role, ordered by name."""
        return tuple(party for name, party in sorted(self._parties.items()) if party.role is role)

    def by_flower_key(self, line: str | bytes) -> Party:
        """Return the party whose SuperNode has this OpenSSH public key (its comment is ignored).

        Raises:
            SignatureInvalid: ``PARTY_UNKNOWN`` if nobody has it.
        """
        try:
            return self._by_flower_key[_key_blob(line)]
        except KeyError:
            raise SignatureInvalid("PARTY_UNKNOWN", "A Flower key belongs to no party.") from None
