"""The pages of a desk: log in, look, act, verify a file.

Invariants:
    - Nothing is shown or done without a session; every form is checked for its session's token and its origin.
    - The policy allows scripts, styles and requests of this very service only; no page holds a script, and a file that
      is verified never leaves the browser.
    - A refusal is shown in words and names the conflict. Nobody's lien but this institution's own is marked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.middleware.base import RequestResponseEndpoint
from starlette.staticfiles import StaticFiles

from ledger import invoice
from ledger.page.sessions import COOKIE, Session, Sessions, check_form, check_origin
from ledger.page.words import LANGUAGES, preferred, speaker
from ledger.service import words
from ledger.service.api import claim_id, ppm_of, request_json
from ledger.service.runtime import Runtime
from protocol.errors import ConcordatError, DataError, NotApproved

HERE = Path(__file__).parent
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LANGUAGE = "concordat_language"


class Pages:
    """Renders the pages of one service."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.sessions = Sessions(runtime.operator_digest)
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined
        )
        self._environment.filters["percent"] = words.percent
        self._environment.filters["moment"] = _moment

    def language(self, request: Request) -> str:
        """Return the language of a request."""
        return preferred(request.cookies.get(LANGUAGE, ""), request.headers.get("accept-language", ""))

    def session(self, request: Request) -> Session | None:
        """Return the session of a request."""
        return self.sessions.find(request.cookies.get(COOKIE, ""))

    def render(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """Return a page."""
        language, session = self.language(request), self.session(request)
        config = self.runtime.config
        text = self._environment.get_template(template).render(
            t=speaker(language),
            language=language,
            languages=LANGUAGES,
            csrf=session.csrf if session else "",
            logged_in=session is not None,
            title=config.institution.title or config.institution.name,
            roles=config.institution.roles,
            peers=config.peers,
            fresh=self.runtime.worker.fresh,
            **values,
        )
        return HTMLResponse(text, status_code=status)

    def explain(self, request: Request, error: ConcordatError) -> dict[str, str]:
        """Return an error in the words of a request's language."""
        known = words.refusal(error.code, {})
        chinese = self.language(request) != LANGUAGES[0] and error.code.startswith("LEDGER_")
        return {"code": error.code, "message": known[1] if chinese else error.message, "hint": error.hint}

    def overview(self) -> dict[str, Any]:
        """Return what the first page shows."""
        tray, standing = self.runtime.tray, self.runtime.desk.standing
        return {
            "receivables": [_described(standing.summary(each)) for each in tray.receivables()],
            "requests": [_asked(request_json(each)) for each in tray.requests()],
        }

    def one(self, claim: bytes) -> dict[str, Any]:
        """Return what a receivable's page shows."""
        tray, standing = self.runtime.tray, self.runtime.desk.standing
        return {
            "one": _described(standing.describe(tray.receivable(claim))),
            "requests": [_asked(request_json(each)) for each in tray.requests(claim)],
        }


def _described(found: dict[str, Any]) -> dict[str, Any]:
    read = invoice.Invoice.from_json(found["invoice"])
    return {**found, "amount": f"{read.amount} {read.currency}"}


def _asked(found: dict[str, Any]) -> dict[str, Any]:
    problem, chinese = found.get("problem"), found.get("words", {}).get("zh-CN", "")
    return {"ppm": None, **found, "why": {"en": problem["detail"] if problem else "", "zh-CN": chinese}}


def _moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def mount(app: FastAPI, runtime: Runtime) -> Pages:
    """Add the pages to a service's application."""
    pages = Pages(runtime)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")

    @app.middleware("http")
    async def headers(request: Request, call_next: RequestResponseEndpoint) -> Response:
        answer = await call_next(request)
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
        return answer

    _look(app, pages)
    _act(app, pages)
    return pages


def _look(app: FastAPI, pages: Pages) -> None:
    options: dict[str, Any] = {"include_in_schema": False, "response_class": HTMLResponse}

    async def shown(request: Request, template: str, made: Callable[[], dict[str, Any]]) -> Response:
        if pages.session(request) is None:
            return RedirectResponse("/login", 303)
        try:
            values = await run_in_threadpool(made)
        except ConcordatError as error:
            fault = pages.explain(request, error)
            return pages.render(request, "fault.html", error.http_status, fault=fault)
        return pages.render(request, template, fault=None, **values)

    @app.get("/login", **options)
    async def login(request: Request) -> Response:
        return pages.render(request, "login.html", fault=None)

    @app.get("/", **options)
    async def overview(request: Request) -> Response:
        return await shown(request, "overview.html", pages.overview)

    @app.get("/fragments/overview", **options)
    async def overview_part(request: Request) -> Response:
        return await shown(request, "_lists.html", pages.overview)

    @app.get("/receivables/{claim}", **options)
    async def receivable(request: Request, claim: str) -> Response:
        return await shown(request, "receivable.html", lambda: pages.one(claim_id(claim)))

    @app.get("/fragments/receivables/{claim}", **options)
    async def receivable_part(request: Request, claim: str) -> Response:
        return await shown(request, "_standing.html", lambda: pages.one(claim_id(claim)))

    @app.get("/verify/{digest}", **options)
    async def verify(request: Request, digest: str) -> Response:
        return await shown(request, "_verdicts.html", lambda: pages.runtime.verify(claim_id(digest)))

    @app.get("/language/{language}", **options)
    async def language(request: Request, language: str) -> Response:
        answer = RedirectResponse("/", 303)
        if language in LANGUAGES:
            answer.set_cookie(LANGUAGE, language, max_age=365 * 86_400, httponly=True, samesite="strict")
        return answer


def _act(app: FastAPI, pages: Pages) -> None:
    runtime = pages.runtime
    options: dict[str, Any] = {"include_in_schema": False, "response_class": HTMLResponse}

    async def done(request: Request, back: str, act: Callable[[FormData], Any]) -> Response:
        """Check a form, act, and show where it leads; a refusal is shown on a page of its own."""
        session = pages.session(request)
        if session is None:
            return RedirectResponse("/login", 303)
        try:
            check_origin(request.headers)
            async with request.form(max_files=1, max_fields=20) as form:
                check_form(session, str(form.get("csrf", "")))
                result = act(form)
                found = await result if hasattr(result, "__await__") else result
        except ConcordatError as error:
            fault = pages.explain(request, error)
            return pages.render(request, "fault.html", error.http_status, fault=fault)
        runtime.wake()
        return RedirectResponse(found or back, 303)

    @app.post("/login", **options)
    async def begin(request: Request) -> Response:
        try:
            check_origin(request.headers)
            async with request.form(max_files=0, max_fields=5) as form:
                cookie = pages.sessions.begin(str(form.get("token", "")))
        except NotApproved as error:
            fault = pages.explain(request, error)
            return pages.render(request, "login.html", error.http_status, fault=fault)
        answer = RedirectResponse("/", 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", secure=secure)
        return answer

    @app.post("/logout", **options)
    async def end(request: Request) -> Response:
        def act(form: FormData) -> str:
            pages.sessions.end(request.cookies.get(COOKIE, ""))
            return "/login"

        return await done(request, "/login", act)

    @app.post("/register", **options)
    async def register(request: Request) -> Response:
        async def act(form: FormData) -> str:
            upload = form.get("document")
            if not isinstance(upload, UploadFile) or not upload.filename:
                raise DataError("FILE_MISSING", "document: choose a file.")
            data = await upload.read()
            row = str(form.get("row") or "1")
            if not row.isdigit() or not 1 <= int(row) <= 1_000_000:
                raise DataError("ROW", "row: it is no number of a row.")
            name = upload.filename
            claim = await run_in_threadpool(_registered, runtime, data, name, int(row))
            return f"/receivables/{claim}"

        return await done(request, "/", act)

    @app.post("/receivables/{claim}/ask/{kind}", **options)
    async def ask(request: Request, claim: str, kind: str) -> Response:
        async def act(form: FormData) -> None:
            amount = str(form.get("amount") or "") or None
            to, share = str(form.get("to", "")), _share(form)
            await run_in_threadpool(runtime.ask, claim_id(claim), kind, to, share, amount)

        return await done(request, f"/receivables/{claim}", act)

    @app.post("/requests/{name}/{answer}", **options)
    async def answered(request: Request, name: str, answer: str) -> Response:
        async def act(form: FormData) -> str:
            if answer == "accept":
                asked = await run_in_threadpool(runtime.answering.accept, name, _share(form))
                return f"/receivables/{asked.claim.hex()}"
            if answer != "decline":
                raise DataError("ANSWER", "A request is accepted or declined.")
            await run_in_threadpool(runtime.answering.decline, name)
            return "/"

        return await done(request, "/", act)

    @app.post("/receivables/{claim}/release", **options)
    async def release(request: Request, claim: str) -> Response:
        async def act(form: FormData) -> None:
            lien = str(form.get("lien") or "")
            key = str(form.get("once") or "")
            await run_in_threadpool(
                runtime.desk.release, claim_id(claim), claim_id(lien) if lien else None, key
            )

        return await done(request, f"/receivables/{claim}", act)

    @app.post("/receivables/{claim}/credit-note", **options)
    async def credit_note(request: Request, claim: str) -> Response:
        async def act(form: FormData) -> None:
            minor = await run_in_threadpool(runtime.minor, claim_id(claim), str(form.get("amount") or ""))
            await run_in_threadpool(runtime.desk.credit_note, claim_id(claim), minor)

        return await done(request, f"/receivables/{claim}", act)


def _registered(runtime: Runtime, data: bytes, name: str, row: int) -> str:
    read = invoice.read(data, name, row)
    return runtime.desk.register(read, hashlib.sha256(data).digest()).hex()


def _share(form: FormData) -> int | None:
    text = str(form.get("share") or "").replace(",", ".")
    if not text:
        return None
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 100:
        raise DataError("SHARE", "share: it lies above 0 and at most at 100 per cent.")
    return ppm_of(share)
