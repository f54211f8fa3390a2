"""The admin port answers probes whatever else it is asked for."""

import asyncio
import threading
from dataclasses import replace

from aiohttp import web

from fakes.gateway import gateway

#: Longer than the test; what is waited for comes at once.
LONG_S = 60.0


async def test_probes_are_answered_while_a_page_of_metrics_is_rendered() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def render() -> tuple[str, bytes]:
        begun.set()
        assert may_end.wait(LONG_S), "nobody was served meanwhile"
        return "text/plain", b"page"

    async with gateway() as gw:
        admin = replace(gw.plane.admin, exposition=render)
        runner = web.ServerRunner(web.Server(admin.handle))
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            page = asyncio.create_task(gw.session.get(f"{url}/metrics"))
            assert await asyncio.to_thread(begun.wait, LONG_S)
            async with gw.session.get(f"{url}/livez") as alive:
                assert alive.status == 200
            assert not page.done()
            may_end.set()
            async with await page as rendered:
                assert await rendered.read() == b"page"
        finally:
            may_end.set()
            await runner.cleanup()
