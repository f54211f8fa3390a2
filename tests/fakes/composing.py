"""Gateways whose one rule composes answers, over fake models by name."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from fakes.gateway import Gateway, external, gateway
from fakes.policies import policy, rule, tier
from switchboard_cli.fake_model.server import Serving, serve
from switchboard_cli.fake_model.settings import Settings, patch_settings
from switchboard_policy import ir

#: A token costs a microdollar, in and out.
PRICED = ir.Pricing(input_picodollars=1_000_000, output_picodollars=1_000_000)


@dataclass
class Composing:
    """A gateway before fake models."""

    gw: Gateway
    models: Mapping[str, Serving]

    def asked(self, name: str) -> int:
        """How many requests a model has got."""
        return len(self.bodies(name))

    def bodies(self, name: str) -> list[Any]:
        """What a model was asked, oldest first."""
        return [orjson.loads(one.body) for one in self.models[name].engine.records.last(1_000)]

    def outcomes(self, name: str) -> list[str]:
        """What became of them at the model: answered, error, cut, cancelled."""
        return [one.outcome for one in self.models[name].engine.records.last(1_000)]


@asynccontextmanager
async def composing(
    models: Mapping[str, Mapping[str, object]],
    *tiers: Sequence[str],
    urls: Mapping[str, str] | None = None,
    backends: Mapping[str, Mapping[str, Any]] | None = None,
    fields: Mapping[str, Any] | None = None,
    **said: Any,
) -> AsyncGenerator[Composing]:
    """Run fake models with these settings by name, and a gateway whose rule has these tiers.

    ``said`` is of the rule, ``fields`` are the policy's, ``backends`` those of single backends;
    ``urls`` are of upstreams that are no fake models.
    """
    async with AsyncExitStack() as stack:
        running = {
            name: await stack.enter_async_context(serve(patch_settings(Settings(name=name), one)))
            for name, one in models.items()
        }
        every = {name: one.url for name, one in running.items()} | dict(urls or {})
        built = [tier("-".join(names), *names) for names in tiers]
        own = {name: {"pricing": PRICED, **(backends or {}).get(name, {})} for name in every}
        gw = await stack.enter_async_context(
            gateway(
                policy("chat", rule("default", *built, **said), **(fields or {})),
                *(external(name, url, **own[name]) for name, url in every.items()),
            )
        )
        yield Composing(gw, running)


def says(text: str, **settings: object) -> dict[str, object]:
    """Settings of a model that says just this."""
    return {"answer_text": text, **settings}


def fails(status: int = 500) -> dict[str, object]:
    """Settings of a model that answers nothing."""
    return {"faults": [{"kind": "status", "status": status}]}


def asked(name: str, **fields: Any) -> ir.Asked:
    return ir.Asked(f"ai/{name}", **fields)


#: An answer that holds the right one will do.
RIGHT = ir.Cascade(when='answer.text.contains("42")')


def cascade(
    small: dict[str, object], large: dict[str, object], checks: ir.Cascade = RIGHT, **more: Any
) -> AbstractAsyncContextManager[Composing]:
    """A cascade from a small to a large model, beside the others."""
    others = more.pop("models", {})
    return composing(
        {"small": small, "large": large, **others}, ["small"], ["large"], cascade=checks, **more
    )
