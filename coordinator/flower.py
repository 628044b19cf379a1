"""The coordinator's side of Flower's Control API: nodes registered, runs started, watched, stopped.

The API is reached on loopback only; whoever reaches it can start runs. Its client is internal to Flower, so Flower
is pinned and nothing outside this module touches it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from protocol.errors import Unavailable

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")


def pem_of(line: str) -> bytes:
    """Return the PEM form, in which Flower keeps a node's public key, of an OpenSSH line."""
    key = serialization.load_ssh_public_key(line.encode())
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def line_of(pem: bytes) -> str:
    """Return the OpenSSH line, which the registry states, of a key as Flower keeps it."""
    key = serialization.load_pem_public_key(pem)
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return line.decode()


@dataclass(frozen=True)
class RunState:
    """State of a run: ``pending``, ``starting``, ``running`` or ``finished``, and how it finished."""

    status: str
    outcome: str
    details: str

    @property
    def over(self) -> bool:
        """Whether the run has ended, in whichever way."""
        return self.status == "finished"


class Control:
    """A client of the Control API."""

    def __init__(self, address: str, authority: Path) -> None:
        self._address, self._authority = address, authority

    @contextmanager
    def _client(self) -> Iterator[Any]:
        from flwr.supercore.control.control_http_client import ControlHttpClient
        from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

        client = ControlHttpClient.from_server_address(
            self._address,
            False,
            self._authority.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )
        try:
            yield client
        finally:
            client.close()

    def register(self, name: str, flower_key: str, patience: float = 30.0) -> None:
        """Register a SuperNode's public key; one that is registered already stays so.

        Raises:
            Unavailable: the SuperLink doesn't answer within ``patience`` seconds.
        """
        import httpx
        from flwr.proto.control_pb2 import RegisterNodeRequest

        deadline = time.monotonic() + patience
        while True:
            try:
                with self._client() as client:
                    client.RegisterNode(RegisterNodeRequest(public_key=pem_of(flower_key), name=name))
                return
            except httpx.HTTPStatusError as error:
                if error.response.status_code == httpx.codes.CONFLICT:
                    return
                raise
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise Unavailable("FLOWER_DOWN", "the SuperLink doesn't answer") from None
                time.sleep(0.2)

    def await_ready(self, patience: float, ended: Callable[[], bool]) -> None:
        """Wait until the SuperLink answers.

        Raises:
            Unavailable: it doesn't within ``patience`` seconds.
        """
        import httpx
        from flwr.proto.control_pb2 import ListRunsRequest

        deadline = time.monotonic() + patience
        while not ended():
            try:
                with self._client() as client:
                    client.ListRuns(ListRunsRequest(limit=1))
                return
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise Unavailable("FLOWER_DOWN", "the SuperLink doesn't answer") from None
                time.sleep(0.1)

    def start(self, bundle: bytes, config: Mapping[str, str]) -> str:
        """Start a run of a bundle; returns the run's id."""
        import hashlib

        from flwr.common.serde import fab_to_proto, user_config_to_proto
        from flwr.proto.control_pb2 import StartRunRequest
        from flwr.supercore.fab import Fab

        fab = Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})
        with self._client() as client:
            reply = client.StartRun(
                StartRunRequest(fab=fab_to_proto(fab), override_config=user_config_to_proto(dict(config)))
            )
        return str(reply.run_id)

    def state(self, run: str) -> RunState:
        """Return a run's state."""
        from flwr.proto.control_pb2 import ListRunsRequest

        with self._client() as client:
            reply = client.ListRuns(ListRunsRequest(run_id=int(run)))
        status = reply.run_dict[int(run)].status
        return RunState(status.status, status.sub_status, status.details)

    def stop(self, run: str) -> None:
        """Stop a run."""
        from flwr.proto.control_pb2 import StopRunRequest

        with self._client() as client:
            client.StopRun(StopRunRequest(run_id=int(run)))
