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

from node.config import NodeConfig, load
from node.keystore import Keystore

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")


def _in_memory(name: str, content: bytes) -> str:
    descriptor = os.memfd_create(name)
    os.write(descriptor, content)
    return f"/proc/self/fd/{descriptor}"


def _sign_off(config: NodeConfig, private: bytes, authority: Path) -> None:
    """Tell the SuperLink that this node's former process is gone, if the node is known there."""
    import httpx
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_ssh_private_key,
    )
    from flwr.proto.fleet_pb2 import DeactivateNodeRequest, RegisterNodeFleetRequest
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

    key = load_ssh_private_key(private, None)
    assert isinstance(key, EllipticCurvePrivateKey)
    public = key.public_key()
    with (
        contextlib.suppress(httpx.HTTPError),
        FleetHttpClient.from_server_address(
            config.joined().coordinator,
            False,
            authority.read_bytes(),
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(key, public),
            ],
        ) as client,
    ):
        encoded = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        node = client.RegisterNode(RegisterNodeFleetRequest(public_key=encoded)).node_id
        client.DeactivateNode(DeactivateNodeRequest(node_id=node))


def main() -> None:
    """Run the node's SuperNode."""
    config = load(Path(sys.argv[1]))
    private = Keystore(config.path("keys"), config.passphrase()).flower_private_openssh()
    authority = config.path(config.joined().authority)
    started = config.path("run/supernode.started")
    if started.exists():
        _sign_off(config, private, authority)
    started.parent.mkdir(parents=True, exist_ok=True)
    started.touch()

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
