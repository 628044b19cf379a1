"""The node's SuperNode: Flower's own, started with a key that never lies on disk in the clear.

The key is decrypted into an anonymous file in memory, whose path is handed to Flower. A SuperNode that was killed is
still marked online for a while and its successor would be turned away, so the relay is told first that the old one is
gone.

Run as ``python -m node.flower.supernode NODE.toml``.
"""

from __future__ import annotations

import contextlib
import os
import sys
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


def main() -> None:
    """Run the node's SuperNode."""
    config = load(Path(sys.argv[1]))
    private = Keystore(config.path("keys"), config.passphrase()).flower_private_openssh()
    authority = config.path(config.joined().authority)
    file = config.path("run/supernode.id")
    with contextlib.suppress(OSError, ValueError):
        _sign_off(config, private, authority, int(file.read_bytes()))
    _remember(file)

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
    from flwr.supernode.cli.flower_supernode import flower_supernode

    flower_supernode()


if __name__ == "__main__":
    main()
