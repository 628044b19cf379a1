"""The coordinator's side of Flower's Control API: nodes registered, runs started, watched, stopped.

The API is reached on loopback only; whoever reaches it can start runs. Its client is internal to Flower, so Flower
is pinned and nothing outside this module touches it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")


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

    def register(self, name: str, flower_key: str) -> None:
        """Register a SuperNode's public key; one that is registered already stays so."""
        import httpx
        from flwr.proto.control_pb2 import RegisterNodeRequest

        with self._client() as client:
            try:
                client.RegisterNode(RegisterNodeRequest(public_key=flower_key.encode(), name=name))
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.CONFLICT:
                    raise

    def start(self, bundle: bytes, config: dict[str, str]) -> str:
        """Start a run of a bundle; returns the run's id."""
        import hashlib

        from flwr.common.serde import fab_to_proto, user_config_to_proto
        from flwr.proto.control_pb2 import StartRunRequest
        from flwr.supercore.fab import Fab

        fab = Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})
        with self._client() as client:
            reply = client.StartRun(
                StartRunRequest(fab=fab_to_proto(fab), override_config=user_config_to_proto(config))
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
