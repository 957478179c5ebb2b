"""`fleet watch` over HTTP: a page, its news as server-sent events, orders, metrics. On loopback only."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, Literal, TypeVar

import msgspec
from aiohttp import web

from fleet import __version__
from fleet.errors import FleetError
from fleet.report.page import environment
from fleet.watch.live import Live
from fleet.watch.session import Session, is_ours, is_same_origin

HOST: Final = "127.0.0.1"
RETRY_MS: Final = 500
"""Browsers wait for seconds otherwise before they come back."""

_MAX_PAGES: Final = 32
_MAX_REASON: Final = 500
_KEY: Final = "X-Fleet-Key"
_OPEN: Final = frozenset({"/session", "/metrics"})
"""What is answered without the cookie, each for a reason of its own."""

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An order, as a page gives it. What wipes again (`retry`) is not among them."""

    verb: Literal["hold", "release", "drain", "approve"]
    reason: str
    target: str | None = None
    wave: int | None = None


class _Token(msgspec.Struct, frozen=True):
    token: str


Give = Callable[[Wish], str]
"""Gives an order, which may take seconds; returns what was done, in words. Raises FleetError."""


class Watch:
    """Serves one run.

    Args:
        live: The run.
        give: Gives orders; None: nobody may (`--read-only`).
        now: The time of day.
    """

    def __init__(
        self, live: Live, give: Give | None, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.live = live
        self.session = Session()
        self._give = give
        self._now = now
        self._pages = 0
        self._ticked = asyncio.Condition()
        self._ending = False
        self._giving = asyncio.Lock()
        self._last_look = 0.0

    def application(self) -> web.Application:
        """Return the application."""
        app = web.Application(middlewares=[self._guard], client_max_size=16 * 1024)
        app.router.add_get("/", self._page)
        app.router.add_get("/events", self._events)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/session", self._exchange)
        app.router.add_post("/orders", self._order)
        app.cleanup_ctx.append(self._looking)
        app.on_shutdown.append(self._end)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let nobody in who came by a foreign name, from a foreign page, or without the cookie."""
        try:
            answer = await self._admitted(request, handler)
        except web.HTTPException as error:
            answer = _refusal(error.status, error.reason)
        except FleetError as error:
            answer = _refusal(500, error.message)
        if not answer.prepared:
            for name, value in _headers().items():
                answer.headers.setdefault(name, value)
        return answer

    async def _admitted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_ours(request.host):
            return _refusal(403, f"this is a page of {HOST}; it is not shown under another name")
        if request.method not in {"GET", "POST"}:
            return _refusal(405, "only GET and POST")
        origin = request.headers.get("Origin", "")
        if request.method == "POST" and not is_same_origin(origin, request.host):
            return _refusal(403, "only a page of `fleet watch` itself may ask for that")
        if request.path not in _OPEN and not self.session.may_look(request.cookies):
            if request.path == "/" and request.method == "GET":
                return _html(environment().get_template("enter.html.j2").render, status=403)
            return _refusal(
                403, "the cookie of this `fleet watch` is missing: open the address that it printed"
            )
        return await handler(request)

    async def _exchange(self, request: web.Request) -> web.Response:
        """Give cookie and key for the token, once."""
        wanted = await _body(request, _Token)
        given = self.session.exchange(wanted.token)
        if given is None:
            return _refusal(
                403, "the address was used before, or is another one's: start `fleet watch` again"
            )
        value, key = given
        answer = web.json_response({"key": key})
        answer.set_cookie(self.session.cookie, value, httponly=True, samesite="Strict", path="/")
        return answer

    async def _page(self, request: web.Request) -> web.Response:
        del request
        self._look()
        may_steer = self._give is not None
        return _html(
            functools.partial(self.live.page, "watch.html.j2", version=__version__, may_steer=may_steer)
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        """Answer whoever is on this machine: a scraper has no cookie. Counts and times, no server's name."""
        del request
        text = self.live.metrics(self._now())
        return web.Response(
            body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def _order(self, request: web.Request) -> web.Response:
        if self._give is None:
            return _refusal(403, "this `fleet watch` only looks (--read-only)")
        if not self.session.may_steer(request.cookies, request.headers.get(_KEY, "")):
            return _refusal(403, "only the tab that opened the printed address may steer; this one may look")
        wish = await _body(request, Wish)
        reason = wish.reason.strip()
        if not reason or len(reason) > _MAX_REASON or not reason.isprintable():
            return _refusal(400, f"a reason is needed: one line, at most {_MAX_REASON} characters")
        try:
            async with self._giving:
                words = await asyncio.to_thread(self._give, msgspec.structs.replace(wish, reason=reason))
        except FleetError as error:
            return _refusal(409, error.message + (f" ({error.hint})" if error.hint else ""))
        self._look()
        return web.json_response({"words": words})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Tell a page what changes, until it goes. `id` is the journal's line: a page comes back with it."""
        if self._pages >= _MAX_PAGES:
            return _refusal(503, f"{_MAX_PAGES} pages are open already")
        last = request.headers.get("Last-Event-ID") or request.query.get("after", "")
        seq, look = int(last) if last.isdecimal() and len(last) < 16 else 0, None
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", **_headers()})
        self._pages += 1
        try:
            await answer.prepare(request)
            await answer.write(b"retry: %d\n\n" % RETRY_MS)
            self._look()
            while not self._ending:
                message = self.live.message(look, seq)
                seq, look = self.live.seq, self.live.looks
                await answer.write(
                    b"id: %d\ndata: %s\n\n" % (seq, msgspec.json.encode(message, enc_hook=str))
                )
                async with self._ticked:
                    await self._ticked.wait()
        except (ConnectionError, asyncio.CancelledError):
            pass  # the page was closed
        finally:
            self._pages -= 1
        return answer

    def _look(self) -> None:
        self.live.look(self._now())

    async def _looking(self, app: web.Application) -> AsyncIterator[None]:
        del app
        task = asyncio.create_task(self._tick(), name="look")
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _tick(self) -> None:
        """Look again and again while somebody watches."""
        while True:
            await asyncio.sleep(self.live.pause_s)
            if self._pages:
                self._look()
                async with self._ticked:
                    self._ticked.notify_all()

    async def _end(self, app: web.Application) -> None:
        del app
        self._ending = True
        async with self._ticked:
            self._ticked.notify_all()


def _html(render: Callable[..., str], *, status: int = 200) -> web.Response:
    """Return a page; *render* is told the nonce that its own style and script have to show."""
    nonce = secrets.token_urlsafe(16)
    html = render(nonce=nonce)
    return web.Response(text=html, status=status, content_type="text/html", headers=_headers(nonce))


def _headers(nonce: str = "") -> dict[str, str]:
    """Return what every answer says: nothing from elsewhere, nothing foreign runs, nothing is kept."""
    ours = f"script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; style-src-attr 'unsafe-inline'; "
    policy = (
        # Pages have an empty icon, or Firefox asks for one, is refused, and complains.
        f"default-src 'none'; {ours if nonce else ''}connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def _refusal(status: int, words: str) -> web.Response:
    return web.json_response({"error": words}, status=status)


async def _body(request: web.Request, kind: type[T]) -> T:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(reason="application/json is expected")
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.MsgspecError as error:
        raise web.HTTPBadRequest(reason=f"not understood: {error}"[:200].replace("\n", " ")) from error


async def serve(watch: Watch, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        FleetError: The port is taken.
    """
    runner = web.AppRunner(watch.application(), access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port)
        try:
            await site.start()
        except OSError as error:
            raise FleetError(
                f"cannot listen on {HOST}:{port}: {error.strerror or error}",
                hint="--port names another one; without it a free one is taken",
            ) from error
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        address, chosen = runner.addresses[0][:2]
        on_ready(f"http://{address}:{chosen}/#{watch.session.token}")
        await stop.wait()
    finally:
        await runner.cleanup()
