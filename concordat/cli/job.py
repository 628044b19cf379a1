"""``concordat job submit | list | show | watch | cancel``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from concordat.cli import place
from concordat.cli.output import Format, FormatOption, facts, moment, say, show, table
from protocol.errors import JobVoid, NotApproved

JobArgument = Annotated[str, typer.Argument(help="The job's id, or its beginning.")]
ENDED = ("finished", "failed", "cancelled", "rejected")
OUTCOME = {
    "finished": 0,
    "failed": JobVoid.exit_code,
    "cancelled": JobVoid.exit_code,
    "rejected": NotApproved.exit_code,
}
"""Exit code of ``job watch`` by the state in which the job ended."""
TURN_SECONDS = 0.3


def submit(
    file: Annotated[Path, typer.Argument(help="The job in TOML; docs/handbook/jobs.md describes it.")],
    check: Annotated[bool, typer.Option("--check", help="Only say whether the file is right.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Then watch the job until it ends.")] = False,
    coordinator: place.CoordinatorFile = place.COORDINATOR,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Propose a job to its parties; it runs once all have approved it.

    \b
    Examples:
      concordat job submit score.toml
      concordat job submit score.toml --check
    """
    from concordat.cli.job_file import proposal_body, read_job_file

    asked = read_job_file(file)
    config = place.load_coordinator(coordinator)
    members = asked.banks
    if members is None:
        parties = place.ask_coordinator(coordinator, "GET", "/parties")
        members = [party["name"] for party in parties if party["role"] == "bank"]
    body = proposal_body(asked, file, config.consortium, members)
    if check:
        show(format, {"valid": True, "proposal": body}, lambda: f"{file} is a valid job.")
        return
    made = place.ask_coordinator(coordinator, "POST", "/jobs", body)
    if watch:
        say(f"Submitted as {made['id'][:12]}.")
        raise typer.Exit(follow(coordinator, made["id"], format))
    show(format, made, lambda: f"{made['id']}\n{made['title']}: {made['state']}")
    say(f"Each party now decides: `concordat node job list`. Watch it: concordat job watch {made['id'][:12]}")


def list_jobs(
    coordinator: place.CoordinatorFile = place.COORDINATOR,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Show all jobs, the newest first.

    \b
    Examples:
      concordat job list --format json
    """
    found = place.ask_coordinator(coordinator, "GET", "/jobs")
    show(
        format,
        {"jobs": found},
        lambda: table(
            ("job", "state", "submitted", "seconds", "release", "title", "cause"),
            [
                (
                    job["id"][:12],
                    job["state"],
                    moment(job["submitted_at"]),
                    seconds(job),
                    job["release"],
                    job["title"],
                    job["cause"],
                )
                for job in found
            ],
            "No job was submitted yet.",
        ),
    )


def seconds(job: dict[str, Any]) -> str:
    """Return how long a job ran, or has been running."""
    if not job["started_at"]:
        return "-"
    return f"{(job['finished_at'] or time.time()) - job['started_at']:.0f}"


def show_job(
    job: JobArgument,
    coordinator: place.CoordinatorFile = place.COORDINATOR,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Show a job: its terms, who has approved, where it is, why it ended.

    \b
    Examples:
      concordat job show 3f9c
    """
    found = place.ask_coordinator(coordinator, "GET", f"/jobs/{quote(job, safe='')}")
    show(format, found, lambda: describe(found))


def describe(job: dict[str, Any]) -> str:
    """Return a job for people."""
    from concordat.cli.job_terms import terms
    from protocol.job import Proposal

    proposal = Proposal.parse(job["proposal"])
    undecided = sorted(set(proposal.parties) - set(job["approvals"]))
    decisions = [
        f"{name} {decision}d" if decision == "approve" else f"{name} rejected it"
        for name, decision in sorted(job["approvals"].items())
    ]
    lines: list[tuple[str, object]] = [
        ("job", job["id"]),
        ("title", job["title"]),
        ("purpose", proposal.purpose),
        ("state", job["state"] + (f": {job['cause']}" if job["cause"] else "")),
        ("submitted", f"{moment(job['submitted_at'])} by {proposal.submitted_by}"),
        ("started", moment(job["started_at"])),
        ("ended", moment(job["finished_at"])),
        ("decisions", "; ".join(decisions) or "none yet"),
        *([("waits for", ", ".join(undecided))] if undecided and job["state"] == "proposed" else []),
        *terms(proposal),
        ("attempt", f"{job['attempt'] + 1}, over {', '.join(job['roster']) or 'nobody yet'}"),
        ("resumed", f"{job['resumes']} times"),
    ]
    if job["result"]:
        figures = job["result"]["figures"]
        lines.append(("model", f"version {job['result']['version']}, {job['result']['model'][:12]}"))
        lines.append(("hold-out", f"AUC {figures['auc']:.4f}, KS {figures['ks']:.4f}"))
    return facts(lines)


def watch(
    job: JobArgument,
    coordinator: place.CoordinatorFile = place.COORDINATOR,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Watch a job until it ends: live on stderr, its outcome on stdout.

    Exit code 0 if it finished, 5 if an institution rejected it, 6 if it failed or was cancelled. Ctrl-C stops watching,
    not the job.

    \b
    Examples:
      concordat job watch 3f9c
      concordat job watch 3f9c --format json 2> progress.log
    """
    raise typer.Exit(follow(coordinator, job, format))


def follow(coordinator: Path, job: str, format: Format) -> int:  # noqa: A002
    """Show a job's events until it ends; returns its outcome as an exit code."""
    from concordat.cli.progress import display

    shown = place.ask_coordinator(coordinator, "GET", f"/jobs/{quote(job, safe='')}")
    last = 0
    with display(f"{shown['title']} ({shown['id'][:12]})") as screen:
        while True:
            ended = shown["state"] in ENDED
            fresh = place.ask_coordinator(coordinator, "GET", f"/jobs/{shown['id']}/events?after={last}")
            for event in fresh:
                last = event["id"]
                screen.take(event)
            # Events are read once more after the end was seen, so that none is missed.
            if ended:
                break
            time.sleep(TURN_SECONDS)
            shown = place.ask_coordinator(coordinator, "GET", f"/jobs/{shown['id']}")
    show(format, shown, lambda: describe(shown))
    return OUTCOME[shown["state"]]


def cancel(
    job: JobArgument,
    coordinator: place.CoordinatorFile = place.COORDINATOR,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Cancel a job that has not ended; the nodes stop and erase its secrets.

    \b
    Examples:
      concordat job cancel 3f9c
    """
    found = place.ask_coordinator(coordinator, "POST", f"/jobs/{quote(job, safe='')}/cancel")
    show(format, found, lambda: f"Cancelling {found['title']} ({found['id'][:12]}).")
