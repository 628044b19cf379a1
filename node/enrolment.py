"""Making a node and bringing it into a consortium: request, admission, membership. Private keys never leave."""

from __future__ import annotations

import json
import secrets
import ssl
import time
from pathlib import Path
from typing import Any

import httpx

from node.config import MEMBERSHIP, NodeConfig, load
from node.door import Door
from node.egress import EgressLog
from node.keystore import Keystore, write_private
from node.members import FILE, save
from node.store import Store
from protocol import document
from protocol.canonical import encode
from protocol.errors import ConfigurationError, NotApproved, Unavailable
from protocol.identity import Directory
from protocol.keys import PublicKey

AUTHORITY = "consortium/ca.crt"
REQUEST = "consortium/request.json"
INVITATION = {
    "consortium",
    "name",
    "role",
    "coordinator",
    "exchange",
    "authority",
    "registry_key",
    "token",
    "expires_at",
}


def initialise(directory: Path, name: str, role: str, runtime: str) -> Path:
    """Make a node's directory: configuration, passphrase and keys; returns the configuration's path.

    Raises:
        ConfigurationError: there is a node already.
    """
    file = directory / "node.toml"
    if file.exists():
        raise ConfigurationError("NODE_EXISTS", f"{file} exists already", "Use another directory.")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(directory / "secret/passphrase", secrets.token_urlsafe(32).encode())
    write_private(
        file,
        "\n".join(
            [
                "# A node of Concordat. Every key is described in docs/handbook/node.md.",
                "[node]",
                f'name = "{name}"',
                f'role = "{role}"',
                "",
                "[flower]",
                f'runtime = "{runtime}"',
                "",
            ]
        ).encode(),
    )
    equip(file)
    return file


def equip(file: Path) -> NodeConfig:
    """Make the keys of a node whose configuration and passphrase somebody else has put in place.

    Raises:
        ConfigurationError: the configuration is wrong, the passphrase is missing, or there are keys already.
    """
    config = load(file)
    Keystore.create(config.path("keys"), config.passphrase())
    write_private(config.path("secret/superexec"), secrets.token_bytes(48))
    return config


def append(file: Path, text: str) -> None:
    """Add sections to a node's configuration, which must still be valid afterwards."""
    whole = file.read_text("utf-8").rstrip() + "\n\n" + text.strip() + "\n"
    write_private(file, whole.encode())
    load(file)


def enroll(file: Path, invitation: dict[str, Any], patience: float) -> NodeConfig:
    """Ask to be admitted, wait for it, and keep the membership.

    Args:
        file: the node's configuration.
        invitation: what the coordinator's operator handed over.
        patience: seconds to wait for the operator's admission.

    Raises:
        ConfigurationError: the invitation is for another node, or the node is enrolled already.
        NotApproved: the coordinator refuses.
        Unavailable: it doesn't answer, or nobody has admitted this node yet.
    """
    config = load(file)
    if set(invitation) != INVITATION:
        raise ConfigurationError("INVITATION_MALFORMED", "this is not an invitation")
    if (invitation["name"], invitation["role"]) != (config.node.name, config.node.role):
        raise ConfigurationError(
            "INVITATION_OTHER",
            f"the invitation is for {invitation['name']} ({invitation['role']}), "
            f"this node is {config.node.name} ({config.node.role})",
        )
    if config.consortium is not None:
        raise ConfigurationError("NODE_ENROLLED", f"{config.node.name} is enrolled already")
    keys = Keystore(config.path("keys"), config.passphrase())
    identity = keys.identity()
    request = _request(config, keys, invitation["token"])
    authority = config.path(AUTHORITY)
    write_private(authority, invitation["authority"].encode())
    store = Store.open(config.database_url(config.database.url))
    try:
        door = Door(EgressLog(store, identity, config.path("egress.head")), None)
        membership = _ask(door, invitation, request, authority, patience)
    finally:
        store.engine.dispose()
    registry = PublicKey.from_hex(invitation["registry_key"])
    directory = Directory.from_statements(
        membership["directory"],
        invitation["consortium"],
        registry,
        int(time.time()),
        config.trust.pins or None,
    )
    if directory[config.node.name].identity != identity.public:
        raise ConfigurationError("MEMBERSHIP_OTHER_KEY", "the registry states another key for this node")
    keys.save_certificate(membership["certificate"].encode())
    save(config.path(FILE), membership["directory"])
    section = "\n".join(
        [
            "[consortium]",
            f"name = {json.dumps(invitation['consortium'])}",
            f"coordinator = {json.dumps(invitation['coordinator'])}",
            f"exchange = {json.dumps(invitation['exchange'])}",
            f'authority = "{AUTHORITY}"',
            f"registry_key = {json.dumps(invitation['registry_key'])}",
        ]
    )
    try:
        append(file, section)
    except OSError:
        # The configuration is mounted read-only, as in a container; the node's own directory is not.
        write_private(config.path(MEMBERSHIP), (section + "\n").encode())
    return load(file)


def _request(config: NodeConfig, keys: Keystore, token: str) -> bytes:
    """Return the request for an invitation; repeated, it is the same to the byte.

    Its certificate request carries a randomised signature, and the registry takes one request per invitation.
    """
    kept = config.path(REQUEST)
    if kept.exists():
        request = kept.read_bytes()
        try:
            body = json.loads(request)["body"]
        except (ValueError, KeyError, TypeError):
            body = {}
        if (body.get("token"), body.get("identity")) == (token, keys.identity().public.hex):
            return request
    body = {
        "token": token,
        "name": config.node.name,
        "identity": keys.identity().public.hex,
        "flower_key": keys.flower_public(),
        "certificate_request": keys.certificate_request(config.node.name).decode(),
    }
    request = encode(document.sign("enrolment", body, config.node.name, keys.identity()))
    write_private(kept, request)
    return request


def _ask(
    door: Door, invitation: dict[str, Any], request: bytes, authority: Path, patience: float
) -> dict[str, Any]:
    tls = ssl.create_default_context(cafile=str(authority))
    address = f"https://{invitation['coordinator']}/enrolments"
    deadline = time.monotonic() + patience
    with httpx.Client(verify=tls, timeout=30) as client:
        replies: list[httpx.Response] = []

        def post(data: bytes) -> None:
            replies.append(client.post(address, content=data, headers={"content-type": "application/json"}))

        while True:
            try:
                door.release(
                    "coordinator",
                    request,
                    post,
                    purpose="enrolment",
                    job="",
                    field_class="public keys",
                )
            except httpx.HTTPError as error:
                if time.monotonic() > deadline:
                    raise Unavailable(
                        "COORDINATOR_UNREACHABLE",
                        f"{invitation['coordinator']} doesn't answer ({type(error).__name__})",
                        "Check the address, the firewall, and whether the coordinator runs.",
                    ) from None
                time.sleep(0.5)
                continue
            reply = replies[-1]
            content = _content(reply)
            if reply.status_code != httpx.codes.OK:
                raise NotApproved(
                    str(content.get("title", "ENROLMENT_REFUSED")),
                    str(content.get("detail", "the coordinator refuses")),
                    str(content.get("hint", "")),
                )
            if content["state"] == "admitted":
                return content
            if time.monotonic() > deadline:
                raise Unavailable(
                    "ENROLMENT_PENDING",
                    f"the coordinator's operator has not admitted this node yet; its fingerprint is "
                    f"{content['fingerprint']}",
                    "Read the fingerprint to the operator, then run `concordat node enroll` again.",
                )
            time.sleep(2)


def _content(reply: httpx.Response) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(reply.content)
    except ValueError:
        return {}
    return content
