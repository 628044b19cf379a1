"""The node's SuperNode: Flower's own, started with a key that never lies on disk in the clear, and its executor.

The key is decrypted into an anonymous file in memory, whose path is handed to Flower. A SuperNode that was killed is
still marked online for a while and its successor would be turned away, so the relay is told first that the old one is
gone. Three of Flower's internals are touched, which is one of the reasons why Flower is pinned: the reply to the
activation is read, the pause between two questions shortened, and a reply is sent as soon as it is there.

Run as ``python -m node.flower.supernode NODE.toml``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from node.config import NodeConfig, load
from node.keystore import Keystore, write_private

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")


def _in_memory(name: str, content: bytes) -> str:
    descriptor = os.memfd_create(name)
    os.write(descriptor, content)
    return f"/proc/self/fd/{descriptor}"


def _remember(file: Path) -> None:
    """Have the number that the SuperLink gives this node written down: only it tells whom to sign off."""
    from flwr.supernode.fleet_http_client import FleetHttpClient

    activate = FleetHttpClient.ActivateNode

    def remembering(client: FleetHttpClient, request: Any) -> Any:
        reply = activate(client, request)
        write_private(file, str(reply.node_id).encode())
        return reply

    setattr(FleetHttpClient, "ActivateNode", remembering)  # noqa: B010


def _ask_often(seconds: float) -> None:
    """Have the SuperNode ask for messages as often as configured: Flower's own pause is three seconds."""
    from types import SimpleNamespace

    from flwr.supernode import start_client_internal

    clock = SimpleNamespace(sleep=lambda pause: time.sleep(min(pause, seconds)))
    setattr(start_client_internal, "time", clock)  # noqa: B010


def replies_wait(state: Any) -> bool:
    """Return whether a ClientApp's reply waits to be sent."""
    with state.lock_msg_store:
        return any(
            not entry.is_retrieved and entry.message.metadata.reply_to_message_id != ""
            for entry in state.msg_store.values()
        )


def _send_late_replies() -> None:
    """Have replies sent whenever there are some, not only after another message has come.

    Flower's loop takes one message, then sends whatever replies there are. One reply in surplus, as a refused bundle
    leaves behind, and from then on every answer would go out only with the next question.
    """
    from flwr.supernode import start_client_internal

    pull = vars(start_client_internal)["_pull_and_store_message"]

    def pulling(*, state: Any, **rest: Any) -> int | None:
        run: int | None = pull(state=state, **rest)
        return 0 if run is None and replies_wait(state) else run

    setattr(start_client_internal, "_pull_and_store_message", pulling)  # noqa: B010


def _sign_off(config: NodeConfig, private: bytes, authority: Path, number: int) -> None:
    """Tell the SuperLink that this node's former process is gone; if it isn't marked online, that is refused."""
    import httpx
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key
    from flwr.proto.fleet_pb2 import DeactivateNodeRequest
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

    key = load_ssh_private_key(private, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    with (
        contextlib.suppress(httpx.HTTPError),
        FleetHttpClient.from_server_address(
            config.joined().coordinator,
            False,
            authority.read_bytes(),
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(key, key.public_key()),
            ],
        ) as client,
    ):
        client.DeactivateNode(DeactivateNodeRequest(node_id=number))


def _end_with(child: int) -> None:
    """End this process, in order, once its executor has ended; whoever supervises it starts both again."""
    os.waitpid(child, 0)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run the node's SuperNode."""
    config = load(Path(sys.argv[1]))
    # What both processes import is imported once; the key is opened after the fork.
    from flwr.supernode.cli.flower_supernode import flower_supernode

    from node.flower import executor

    child = executor.fork(config)
    threading.Thread(target=_end_with, args=(child,), name="executor", daemon=True).start()
    private = Keystore(config.path("keys"), config.passphrase()).flower_private_openssh()
    authority = config.path(config.joined().authority)
    file = config.path("run/supernode.id")
    with contextlib.suppress(OSError, ValueError):
        _sign_off(config, private, authority, int(file.read_bytes()))
    _remember(file)
    _ask_often(config.flower.poll_seconds)
    _send_late_replies()

    host, _, port = config.flower.runtime.rpartition(":")
    sys.argv = [
        "flower-supernode",
        "--root-certificates",
        str(authority),
        "--superlink",
        config.joined().coordinator,
        "--auth-supernode-private-key",
        _in_memory("flower", private),
        "--host",
        host,
        "--port",
        port,
        "--isolation",
        "process",
        "--superexec-auth-secret-file",
        str(config.path("secret/superexec")),
    ]
    flower_supernode()


if __name__ == "__main__":
    main()
