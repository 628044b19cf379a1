"""``concordat ledger …``: the registry of receivables, from an institution's desk.

Commands talk to ledger services, each with its operator's token. An action that two institutions sign has one command
for both halves: with ``--to`` it asks the other institution, without it it answers what is asked of this one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

from concordat.cli import ledger_screens
from concordat.cli.output import Format, FormatOption, say, show
from protocol.errors import ConfigurationError, LedgerError, NotApproved

if TYPE_CHECKING:
    from concordat.ledger_stand import Service, Stand

HOME = Path("var/ledger")
DirectoryOption = Annotated[
    Path, typer.Option("--dir", envvar="CONCORDAT_LEDGER", help="Where the ledger of this machine lives.")
]
AsOption = Annotated[
    str, typer.Option("--as", envvar="CONCORDAT_LEDGER_AS", help="Which institution acts, such as bank-a.")
]
ClaimArgument = Annotated[str, typer.Argument(help="The claim: its 64 digits, or the first eight or more.")]
ToOption = Annotated[
    str, typer.Option("--to", help="Ask this institution; leave it out to answer what is asked of this one.")
]
ShareOption = Annotated[
    float | None, typer.Option("--share", min=0.0001, max=100, help="Share of the receivable in per cent.")
]
AmountOption = Annotated[str, typer.Option("--amount", help="Amount in the receivable's currency.")]
WaitOption = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until it stands under a final checkpoint.")
]


def where(
    context: typer.Context,
    service: Annotated[
        str,
        typer.Option(envvar="CONCORDAT_LEDGER_SERVICE", help="URL of this institution's own service."),
    ] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(envvar="CONCORDAT_LEDGER_TOKEN_FILE", help="Its operator's token."),
    ] = None,
    authorities: Annotated[Path | None, typer.Option(help="PEM authorities of the service.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM chain of this client.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM key of this client.")] = None,
) -> None:
    """The registry of receivables: no receivable is pledged twice.

    Commands act on the ledger of this machine (--dir), as one of its institutions (--as); or, with --service and
    --token-file, as the institution whose service that is.
    """
    if bool(service) != (token_file is not None):
        raise ConfigurationError("USAGE", "--service and --token-file belong together.")
    if service and token_file is not None:
        from concordat.ledger_stand import Service
        from ledger.engine.operating import Trust

        token = token_file.read_text("utf-8").strip()
        context.obj = Service(service.rstrip("/"), token, Trust(authorities, certificate, key))


def up(
    directory: DirectoryOption = HOME,
    port: Annotated[
        int, typer.Option(min=0, max=65_000, help="First port of a new ledger; 0: free ones.")
    ] = 0,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Bring up a ledger on this machine and leave it running; one that is there already is started again.

    Chain with its contracts, two member banks, a supplier, a core enterprise and a platform, each with its own
    processes and keys. For trying things out: one person holds every key.

    \b
    Examples:
      concordat ledger up
      concordat ledger register invoice.json --as supplier
    """
    stand = _stand(directory)
    if stand.supervisor.alive():
        raise ConfigurationError(
            "ALREADY_UP",
            f"a ledger runs in {directory} already",
            "`concordat ledger status`, `concordat ledger down`.",
        )
    if not stand.made:
        say("Founding the ledger: keys, contracts, genesis, certificates.")
        stand.create(port=port)
    seconds = stand.up(tell=say)
    desks = _desks(stand)
    answer = {"directory": str(stand.directory), "seconds": round(seconds, 2), "institutions": desks}
    show(format, answer, lambda: ledger_screens.desks(desks))
    say(
        f"Up in {seconds:.1f} s. Each page asks for its operator's token, which lies in the file named beside it."
    )


def down(directory: DirectoryOption = HOME, format: FormatOption = Format.text) -> None:  # noqa: A002
    """Stop the ledger of this machine; nothing is lost, and `concordat ledger up` starts it again.

    \b
    Examples:
      concordat ledger down
      concordat ledger down --dir var/other
    """
    stand = _stand(directory)
    if not stand.made:
        raise ConfigurationError("STAND_MISSING", f"{directory} holds no ledger.")
    stand.down()
    show(format, {"directory": str(stand.directory)}, lambda: "Stopped.")


def register(
    file: Annotated[Path, typer.Argument(help="The invoice: JSON, or CSV with a head line.")],
    institution: AsOption = "supplier",
    row: Annotated[int, typer.Option(min=1, help="Row of a CSV file under its head line.")] = 1,
    original: Annotated[
        Path | None,
        typer.Option(help="The document's own file, if FILE only describes it; its hash is committed."),
    ] = None,
    wait: WaitOption = True,
    directory: DirectoryOption = HOME,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Commit to a document as its supplier, and have the draft anchored.

    A draft proves a time and blocks nobody; `concordat ledger confirm` or `attest` claims the document. One that is
    claimed already is refused, in whatever format it comes.

    \b
    Examples:
      concordat ledger register invoice.json --as supplier
      concordat ledger register invoices.csv --row 3 --original invoice.pdf
    """
    data = file.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError("FILE_ERROR", f"{file}: it is not UTF-8 text.") from None
    digest = hashlib.sha256(data if original is None else original.read_bytes()).hexdigest()
    service = _service(directory, institution)
    body = {"document": text, "source": file.name, "row": row, "file": digest}
    answer = service.post("/v1/receivables", body)
    if wait:
        answer = service.anchored(answer["claim"])
    show(format, answer, lambda: ledger_screens.registered(answer))


def confirm(
    claim: ClaimArgument,
    institution: AsOption = "core",
    to: ToOption = "",
    wait: WaitOption = True,
    directory: DirectoryOption = HOME,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Confirm a debt (确权): the supplier asks, the obligor signs with its own key.

    \b
    Examples:
      concordat ledger confirm 3fa1b2c4 --as supplier --to core
      concordat ledger confirm 3fa1b2c4 --as core
    """
    _two_sided(directory, institution, "confirm", claim, to, {}, wait, format)


def attest(
    claim: ClaimArgument,
    institution: AsOption = "bank-a",
    to: ToOption = "",
    share: ShareOption = None,
    wait: WaitOption = True,
    directory: DirectoryOption = HOME,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Finance a receivable whose debtor takes no part: the supplier asks, a bank attests and takes the first lien.

    \b
    Examples:
      concordat ledger attest 3fa1b2c4 --as supplier --to bank-a --share 80
      concordat ledger attest 3fa1b2c4 --as bank-a
    """
    body = {} if share is None else {"share": share}
    _two_sided(directory, institution, "attest", claim, to, body, wait, format)


def pledge(
    claim: ClaimArgument,
    institution: AsOption = "bank-a",
    to: ToOption = "",
    share: ShareOption = None,
    wait: WaitOption = True,
    directory: DirectoryOption = HOME,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Pledge a share: the owner consents to a bank with --to, the bank takes it without.

    The answer of the bank's half is final: it may disburse if the command succeeds, and must not otherwise.

    \b
    Examples:
      concordat ledger pledge 3fa1b2c4 --as supplier --to bank-a --share 60
      concordat ledger pledge 3fa1b2c4 --as bank-a
    """
    body = {} if share is None else {"share": share}
    _two_sided(directory, institution, "pledge", claim, to, body, wait, format)


def release(
    claim: ClaimArgument,
    institution: AsOption = "bank-a",
    lien: Annotated[str, typer.Option(help="Which lien, if the institution has several.")] = "",
    key: Annotated[str, typer.Option(help="Idempotency key: the same one again acts once.")] = "",
    wait: WaitOption = True,
    directory: DirectoryOption = HOME,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Give up a lien of this bank.

    \b
    Examples:
      concordat ledger release 3fa1b2c4 --as bank-a
    """
    _one_sided(_service(directory, institution), "release", claim, {"lien": lien}, key, wait, format)


def settle(
    claim: ClaimArgument,
    institution: AsOption = "core",
    to: ToOption = "",
    amount: AmountOption = "",
    wait: WaitOption = True,
    directory: DirectoryOption = HOME,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """State a payment: the obligor says whom it paid what, the bank or the owner agrees.

    \b
    Examples:
      concordat ledger settle 3fa1b2c4 --as core --to bank-a --amount 40000.00
      concordat ledger settle 3fa1b2c4 --as bank-a
    """
    _two_sided(directory, institution, "settle", claim, to, {"amount": amount}, wait, format)


def credit_note(
    claim: ClaimArgument,
    amount: AmountOption,
    institution: AsOption = "core",
    key: Annotated[str, typer.Option(help="Idempotency key: the same one again acts once.")] = "",
    wait: WaitOption = True,
    directory: DirectoryOption = HOME,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Reduce what is owed, as the obligor: a red letter (红字), a return, a set-off.

    Where more is pledged than remains, the receivable is flagged short and frozen.

    \b
    Examples:
      concordat ledger credit-note 3fa1b2c4 --amount 5000.00 --as core
    """
    _one_sided(_service(directory, institution), "credit-note", claim, {"amount": amount}, key, wait, format)


def transfer(
    claim: ClaimArgument,
    institution: AsOption = "supplier",
    to: ToOption = "",
    wait: WaitOption = True,
    directory: DirectoryOption = HOME,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Transfer a whole confirmed receivable: the owner offers it with --to, the next owner takes it without.

    \b
    Examples:
      concordat ledger transfer 3fa1b2c4 --as supplier --to bank-b
      concordat ledger transfer 3fa1b2c4 --as bank-b
    """
    _two_sided(directory, institution, "transfer", claim, to, {}, wait, format)


def status(
    claim: Annotated[
        str, typer.Argument(help="A claim; all of an institution's receivables if left out.")
    ] = "",
    institution: AsOption = "",
    directory: DirectoryOption = HOME,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Show the services, an institution's receivables and requests, or one claim with its time line.

    \b
    Examples:
      concordat ledger status
      concordat ledger status --as bank-a
      concordat ledger status 3fa1b2c4 --as bank-a --format json
    """
    if not institution and _own() is None:
        if claim:
            raise ConfigurationError("INSTITUTION", "Say who asks.", "Add --as NAME.")
        desks = _desks(_stand(directory))
        show(format, {"institutions": desks}, lambda: ledger_screens.desks(desks))
        return
    service = _service(directory, institution)
    if not claim:
        found = {"receivables": service.get("/v1/receivables"), "requests": service.get("/v1/requests")}
        show(format, found, lambda: ledger_screens.lists(found))
        return
    try:
        one = service.get(f"/v1/receivables/{_claim(service, claim)}")
    except LedgerError:
        one = service.get(f"/v1/claims/{claim}")
    show(format, one, lambda: ledger_screens.described(one))


def audit(
    institution: AsOption = "bank-a",
    directory: DirectoryOption = HOME,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Compare an institution's event index with the chain, and name every difference.

    Ends with exit code 8 if there is one.

    \b
    Examples:
      concordat ledger audit --as bank-a
    """
    report = _service(directory, institution).get("/v1/audit")
    show(format, report, lambda: ledger_screens.audited(report))
    if report["differences"]:
        raise typer.Exit(LedgerError.exit_code)


# -- parts ----------------------------------------------------------------------------------------------------


def _stand(directory: Path) -> Stand:
    from concordat.ledger_stand import Stand

    return Stand(directory)


def _service(directory: Path, institution: str) -> Service:
    return _own() or _stand(directory).service(institution)


def _own() -> Service | None:
    """Return the service that the group's options name, if they name one."""
    found: Service | None = click.get_current_context().obj
    return found


def _claim(service: Service, text: str) -> str:
    """Return a claim's full id from its first digits, among what the institution knows."""
    if len(text) == 64:
        return text
    known: set[str] = {
        each["claim"] for path in ("receivables", "requests") for each in service.get(f"/v1/{path}")
    }
    found = sorted(each for each in known if len(text) >= 8 and each.startswith(text.lower()))
    if len(found) != 1:
        raise ConfigurationError(
            "CLAIM_UNCLEAR" if found else "CLAIM_UNKNOWN",
            "Several claims begin so." if found else "This institution knows no claim that begins so.",
            "Give at least eight digits; `concordat ledger status --as NAME` lists them.",
        )
    return found[0]


def _one_sided(
    service: Service,
    act: str,
    claim: str,
    body: dict[str, Any],
    key: str,
    wait: bool,
    format: Format,  # noqa: A002
) -> None:
    answer = service.post(f"/v1/receivables/{_claim(service, claim)}/{act}", body, key)
    _finish(service, answer, wait, format)


def _two_sided(
    directory: Path,
    institution: str,
    kind: str,
    claim: str,
    to: str,
    body: dict[str, Any],
    wait: bool,
    format: Format,  # noqa: A002
) -> None:
    service = _service(directory, institution)
    full = _claim(service, claim)
    if to:
        answer = service.post(f"/v1/receivables/{full}/requests/{kind}", {"to": to, **body})
        show(format, answer, lambda: f"Asked {to}: {answer['id']}.")
        return
    kinds = ("settle-lien", "settle-free") if kind == "settle" else (kind,)
    waiting = [
        each
        for each in service.get("/v1/requests?state=open")
        if each["claim"] == full and each["kind"] in kinds and each["direction"] == "in"
    ]
    if not waiting:
        raise NotApproved(
            "NOTHING_ASKED",
            f"Nobody asks {institution} for this.",
            "The other institution begins, with --to.",
        )
    share = {"share": body["share"]} if "share" in body and kind == "pledge" else {}
    answer = service.post(f"/v1/requests/{waiting[-1]['id']}/accept", share)
    _finish(service, answer, wait, format)


def _finish(service: Service, answer: dict[str, Any], wait: bool, format: Format) -> None:  # noqa: A002
    if wait:
        answer = service.settled(answer["id"])
    if answer["state"] == "refused":
        problem = answer["problem"]
        if format is Format.text:
            say(answer["words"]["zh-CN"])
        raise LedgerError(problem["title"], problem["detail"], problem["hint"])
    show(format, answer, lambda: "Final." if answer["final"] else "Sent.")


def _desks(stand: Stand) -> list[dict[str, Any]]:
    found = []
    for each in stand.institutions:
        service = stand.service(each["name"])
        try:
            state = str(service.get("/v1/health")["status"])
        except Exception:  # noqa: BLE001 - whatever is wrong with a service, the list is shown
            state = "down"
        token = str(stand.directory / each["name"] / "operator.token")
        found.append({**each, "url": service.url, "state": state, "token_file": token})
    return found
