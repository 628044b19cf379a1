"""What the coordinator's operators and risk modellers use, on a Unix socket that only its user can open."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from coordinator.jobs import Jobs
from coordinator.registry import Registry
from coordinator.store import Store
from protocol.errors import ConcordatError, ConfigurationError


class Invite(BaseModel):
    """A request for an invitation."""

    name: str
    role: str
    admit: bool = False


class Admit(BaseModel):
    """The admission of a party whose fingerprint was compared."""

    fingerprint: str


def create(registry: Registry, jobs: Jobs, store: Store) -> FastAPI:
    """Make the application."""
    app = FastAPI(title="Concordat operators", docs_url=None, redoc_url=None)

    @app.exception_handler(ConcordatError)
    def refuse(_: Request, error: ConcordatError) -> JSONResponse:
        return JSONResponse(error.problem(), error.http_status, media_type="application/problem+json")

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {
            "status": "up",
            "registry_key": registry.public.hex,
            "fingerprint": registry.public.fingerprint,
        }

    @app.post("/invitations")
    def invite(request: Invite) -> dict[str, Any]:
        return registry.invite(request.name, request.role, admit=request.admit)

    @app.get("/parties")
    def parties() -> list[dict[str, Any]]:
        return [
            {
                "name": party.name,
                "role": party.role.value,
                "fingerprint": party.identity.fingerprint,
                "valid_until": party.valid_until,
            }
            for party in registry.directory().values()
        ]

    @app.post("/parties/{name}")
    def admit(name: str, request: Admit) -> dict[str, str]:
        registry.admit(name, request.fingerprint)
        return {"state": "admitted"}

    @app.post("/jobs")
    def submit(proposal: dict[str, Any]) -> dict[str, Any]:
        return jobs.submit(proposal)

    @app.get("/jobs")
    def list_jobs() -> list[dict[str, Any]]:
        return [jobs.summary(row) for row in store.list_jobs()]

    @app.get("/jobs/{job}")
    def show(job: str) -> dict[str, Any]:
        return jobs.show(job)

    @app.get("/jobs/{job}/events")
    def events(job: str, after: int = 0) -> list[dict[str, Any]]:
        return store.events(jobs.find(job)["id"], after)

    @app.post("/jobs/{job}/cancel")
    def cancel(job: str) -> dict[str, Any]:
        return jobs.cancel(job)

    @app.get("/models")
    def models() -> list[dict[str, Any]]:
        return store.list_models()

    @app.get("/models/{version}")
    def model(version: int) -> dict[str, Any]:
        found = store.model(version)
        if found is None:
            raise ConfigurationError("MODEL_UNKNOWN", f"there is no model {version}")
        return found

    return app
