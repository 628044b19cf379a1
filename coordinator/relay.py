"""The exchange's server: the configuration of NATS, rendered from the registry.

Each ordered pair of parties has one bucket, written by the first and read by the second, and each party has an
inbox prefix of its own, so that nobody can list, read or listen to what isn't theirs. Users are the subjects of
their client certificates (``verify_and_map``). The coordinator alone makes and purges buckets.

Not protected: JetStream answers a request at whatever reply subject it names, without asking whether its sender may
publish there, so that a member can spoil (never read) an object in another's mailbox. What is spoiled is refused by
its signature, counts as absent, and may be left anew; at worst an attempt is void.

What the relay's operator learns: who sends how much to whom and when. What passes here is signed, and masked or
sealed end to end.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator import founding
from coordinator.config import CoordinatorConfig
from coordinator.store import Store
from node.keystore import write_private
from protocol.mailbox import COORDINATOR, bucket, inbox

MAX_PAYLOAD = 8 * 2**20
RELAY_CONFIG, RELAY_PID = f"{founding.EXCHANGE}/nats.conf", f"{founding.EXCHANGE}/nats.pid"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RelayFiles:
    """Where the server finds its certificate, key, authority and store."""

    certificate: Path
    key: Path
    authority: Path
    store: Path


def render(
    consortium: str, listen: str, files: RelayFiles, parties: Sequence[str], monitor: str | None = None
) -> str:
    """Return the server's configuration for a registry of ``parties`` (without the coordinator)."""
    everyone = sorted({*parties, COORDINATOR})
    users = [_user(consortium, party, everyone) for party in everyone]
    lines = [
        f"listen: {json.dumps(listen)}",
        f"max_payload: {MAX_PAYLOAD}",
        f"jetstream {{ store_dir: {json.dumps(str(files.store))}, sync_interval: always }}",
        "tls {",
        f"  cert_file: {json.dumps(str(files.certificate))}",
        f"  key_file: {json.dumps(str(files.key))}",
        f"  ca_file: {json.dumps(str(files.authority))}",
        "  verify_and_map: true",
        "  timeout: 10",
        "}",
        "authorization { users = [",
        *(f"  {json.dumps(user)}" for user in users),
        "] }",
    ]
    if monitor:
        lines.insert(1, f"http: {json.dumps(monitor)}")
    return "\n".join(lines) + "\n"


def _user(consortium: str, party: str, everyone: Iterable[str]) -> dict[str, object]:
    publish = ["$JS.API.INFO", "$JS.API.STREAM.NAMES"]
    subscribe = [f"{inbox(party)}.>", f"lease.{party}"]
    if party == COORDINATOR:
        # It makes the buckets, purges what a finished job left, and answers for the registry.
        publish = ["$JS.API.>", "$JS.ACK.>", "$JS.FC.>", "$O.>", "lease.*"]
        subscribe.append("$O.*.M.>")
    for other in everyone:
        if other == party:
            continue
        out, into = bucket(consortium, party, other), bucket(consortium, other, party)
        if party != COORDINATOR:
            publish += [f"$O.{out}.>", *_stream(out), f"$JS.API.STREAM.PURGE.OBJ_{out}"]
            publish += [
                *_stream(into),
                f"$JS.API.CONSUMER.CREATE.OBJ_{into}",
                f"$JS.API.CONSUMER.CREATE.OBJ_{into}.>",
                f"$JS.API.CONSUMER.DELETE.OBJ_{into}.>",
                f"$JS.FC.OBJ_{into}.>",
                f"$JS.ACK.OBJ_{into}.>",
            ]
            # The wake-up: an object's last act is the publication of its description on this subject.
            subscribe.append(f"$O.{into}.M.>")
    return {
        "user": f"CN={party}",
        "permissions": {"publish": {"allow": publish}, "subscribe": {"allow": subscribe}},
    }


def _stream(name: str) -> list[str]:
    return [
        f"$JS.API.STREAM.INFO.OBJ_{name}",
        f"$JS.API.STREAM.MSG.GET.OBJ_{name}",
        f"$JS.API.DIRECT.GET.OBJ_{name}",
        f"$JS.API.DIRECT.GET.OBJ_{name}.>",
    ]


def write_relay(config: CoordinatorConfig, store: Store) -> None:
    """Render the exchange's configuration from the registry."""
    files = RelayFiles(
        certificate=config.path(founding.EXCHANGE_CERTIFICATE).resolve(),
        key=config.path(founding.EXCHANGE_KEY).resolve(),
        authority=config.path(founding.EXCHANGE_AUTHORITY).resolve(),
        store=config.path(founding.EXCHANGE, "store").resolve(),
    )
    names = [row["name"] for row in store.list_parties()]
    write_private(
        config.path(RELAY_CONFIG),
        render(
            config.consortium, config.listen.exchange, files, names, config.listen.exchange_monitor
        ).encode(),
    )


def reload_relay(config: CoordinatorConfig) -> None:
    """Have the exchange's server read its configuration again."""
    try:
        os.kill(int(config.path(RELAY_PID).read_text()), signal.SIGHUP)
    except (OSError, ValueError):
        log.warning("the exchange's server could not be told to reload; it reads its users at its next start")
