"""Takes in what applications say of their requests when they end: ``GET /reports`` tells all."""

import argparse
from typing import Any

from aiohttp import web


def application() -> web.Application:
    reports: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        reports.append(await request.json())
        return web.json_response({})

    async def tell(_: web.Request) -> web.Response:
        return web.json_response(reports)

    app = web.Application()
    app.add_routes([web.post("/reports", take), web.get("/reports", tell)])
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8000)
    web.run_app(application(), port=parser.parse_args().port, print=None)
