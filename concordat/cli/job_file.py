"""The file that ``concordat job submit`` takes: a proposal in TOML, described in ``docs/handbook/jobs.md``."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from protocol import contract as contracts
from protocol.errors import ConfigurationError
from protocol.job import Deadlines, DpRecipe, Proposal, Recipe, Release, Vertical
from protocol.settings import Section, parse

_DIGEST = re.compile(r"[0-9a-f]{64}")


class JobFile(Section):
    """What a risk modeller proposes; whatever isn't said has the recipe's default."""

    title: str = Field(description="What people call the job.")
    submitted_by: str = Field(description="Name of the modeller or office.")
    contract: str = Field(description="Digest of the data contract, or its file, relative to this one.")
    purpose: str = Field(default="train", description="The use that the parties agree to.")
    banks: list[str] | None = Field(default=None, description="Names of the banks; all members by default.")
    witnesses: list[str] = Field(default_factory=list, description="Other parties that take part.")
    holdout: float = Field(default=0.3, description="Fraction of rows kept for evaluation.")
    min_rows: int = Field(default=500, description="Fewest rows with which a bank takes part.")
    seed: int | None = Field(default=None, description="A stated seed; never with a private release.")
    release: Release = Release()
    vertical: Vertical | None = Field(
        default=None, description="What data partners bring in; none by default."
    )
    recipe: Recipe = Recipe()
    dp_recipe: DpRecipe = DpRecipe()
    deadlines: Deadlines = Deadlines()


def read_job_file(path: Path) -> JobFile:
    """Read a job's file.

    Raises:
        ConfigurationError: it can't be read, or a key is unknown, missing or wrong.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigurationError(
            "JOB_FILE_UNREADABLE", f"{path}: {reason}", "docs/handbook/jobs.md shows an example."
        ) from None
    return parse(text, JobFile, str(path))


def proposal_body(job: JobFile, source: Path, consortium: str, banks: Sequence[str]) -> dict[str, Any]:
    """Return what is sent to the coordinator.

    Args:
        job: the file's content.
        source: the file, for the contract's path and for messages.
        consortium: its name.
        banks: names of the banks that are members.

    Raises:
        ConfigurationError: the contract can't be read, or the whole isn't a valid proposal.
    """
    body = {
        "consortium": consortium,
        "code": "0" * 64,
        **job.model_dump(mode="json"),
        "banks": sorted(banks if job.banks is None else job.banks),
        "witnesses": sorted({*job.witnesses, *_partners(job)}),
        "contract": _contract(job.contract, source),
        "submitted_at": int(time.time()),
        "nonce": secrets.token_hex(32),
    }
    try:
        proposal = Proposal.model_validate(body)
    except ValidationError as error:
        raise contracts.explain(error, Proposal, str(source), "JOB_INVALID") from None
    # The coordinator fills in its own consortium and the hash of its release.
    return {name: value for name, value in proposal.body.items() if name not in ("consortium", "code")}


def _partners(job: JobFile) -> tuple[str, ...]:
    """Return the parties that the joint stages need; they needn't be named twice."""
    return (*job.vertical.partners, job.vertical.compute) if job.vertical else ()


def _contract(named: str, source: Path) -> str:
    if _DIGEST.fullmatch(named):
        return named
    path = source.parent / named
    try:
        return contracts.parse(path.read_bytes(), str(path)).digest
    except OSError as error:
        raise ConfigurationError(
            "CONTRACT_UNREADABLE",
            f"{path}: {error.strerror}",
            "`contract` is the contract's file, relative to the job's, or its digest (64 hex digits).",
        ) from None
