"""The fake models of a quick start: a TOML file with a table a model."""

import tomllib
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from switchboard_cli.fake_model.server import serve
from switchboard_cli.fake_model.settings import Settings, SettingsError, patch_settings


class FakesError(ValueError):
    """The file of fake models cannot be used; the text names the place and the fix."""


@dataclass(frozen=True, slots=True)
class Fake:
    """A fake model and where it listens."""

    settings: Settings
    host: str
    port: int


def read_fakes(path: Path) -> tuple[Fake, ...]:
    """Read the file; raises FakesError."""
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FakesError(f"{path}: {error}") from error
    return tuple(_read(path, name, table) for name, table in tables.items())


@asynccontextmanager
async def serve_fakes(fakes: tuple[Fake, ...]) -> AsyncGenerator[None]:
    """Serve the fake models; raises OSError where one cannot listen."""
    async with AsyncExitStack() as stack:
        for fake in fakes:
            await stack.enter_async_context(serve(fake.settings, host=fake.host, port=fake.port))
        yield


def _read(path: Path, name: str, table: object) -> Fake:
    if not isinstance(table, Mapping):
        raise FakesError(f"{path}: {name}: write a table, [{name}], with the model's settings")
    said: dict[str, object] = {"name": name, **cast("Mapping[str, object]", table)}
    listen = said.pop("listen", None)
    host, _, port = str(listen).rpartition(":")
    if not host or not port.isdecimal():
        raise FakesError(f'{path}: {name}.listen: write "HOST:PORT", not {listen!r}')
    try:
        return Fake(patch_settings(Settings(), said), host, int(port))
    except SettingsError as error:
        raise FakesError(f"{path}: {name}.{error}") from error
