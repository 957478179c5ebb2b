"""Firefox as it is, headless, over its own WebDriver BiDi: no driver between, and none to install."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
PREFERENCES = """\
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.normandy.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("services.settings.server", "http://127.0.0.1:9/");
user_pref("layout.css.prefers-color-scheme.content-override", %d);
"""
_LISTENS = "WebDriver BiDi listening on "


class Tab:
    """A page, and whatever it has complained of."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._context = ""
        self.errors: list[str] = []

    async def open(self) -> None:
        await self._do("session.new", capabilities={})
        tree = await self._do("browsingContext.getTree")
        self._context = tree["contexts"][0]["context"]
        await self._do("session.subscribe", events=["log.entryAdded"])

    async def _do(self, method: str, **params: Any) -> Any:
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            said = await self._socket.receive_json(timeout=60)
            if said.get("method") == "log.entryAdded" and said["params"]["level"] == "error":
                self.errors.append(said["params"]["text"])
            if said.get("id") == number:
                assert said["type"] == "success", said
                return said["result"]

    async def goto(self, url: str) -> None:
        await self._do("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def size(self, width: int, height: int = 900) -> None:
        wanted = {"width": width, "height": height}
        await self._do("browsingContext.setViewport", context=self._context, viewport=wanted)

    async def evaluate(self, expression: str) -> Any:
        """Return what an expression of the page's is, by way of JSON."""
        said = await self._do(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({expression})) ?? 'null')()",
            target={"context": self._context},
            awaitPromise=True,
        )
        assert said["type"] == "success", said
        return json.loads(said["result"]["value"])

    async def until(self, expression: str) -> None:
        """Wait until it is so."""
        async with asyncio.timeout(60):
            while not await self.evaluate(expression):  # noqa: ASYNC110 - the browser tells nobody
                await asyncio.sleep(0.1)

    async def screenshot(self, path: Path) -> None:
        said = await self._do("browsingContext.captureScreenshot", context=self._context)
        path.write_bytes(base64.b64decode(said["data"]))  # noqa: ASYNC240 - nobody else waits


@asynccontextmanager
async def firefox(folder: Path, *, dark: bool = False) -> AsyncIterator[Tab]:
    """Start it with a profile of its own in *folder*; yield a tab."""
    assert FIREFOX is not None
    profile = folder / f"profile-{dark}"
    profile.mkdir()
    (profile / "user.js").write_text(PREFERENCES % (0 if dark else 1))
    process = await asyncio.create_subprocess_exec(
        FIREFOX, "--headless", "--no-remote", "--remote-debugging-port=0", "--profile", str(profile),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin", "MOZ_HEADLESS": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(90):
            address = ""
            while _LISTENS not in address:
                address = (await process.stderr.readline()).decode()
                assert address, "it has ended"
        rest = asyncio.create_task(process.stderr.read())
        url = f"{address.partition(_LISTENS)[2].strip()}/session"
        async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
            tab = Tab(socket)
            await tab.open()
            yield tab
        rest.cancel()
    finally:
        process.kill()
        await process.wait()
