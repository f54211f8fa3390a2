"""One request from its body to its answer: read, admit, wait its turn, answer."""

import asyncio
from collections.abc import Mapping
from typing import cast

import orjson
from aiohttp import HttpVersion11, web

from switchboard_cli.fake_model import answers, embeddings, errors
from switchboard_cli.fake_model.answers import Answer, Envelope
from switchboard_cli.fake_model.asks import Api, Ask, read_ask
from switchboard_cli.fake_model.engine import Engine
from switchboard_cli.fake_model.errors import RefusedError
from switchboard_cli.fake_model.faults import Kind, Point
from switchboard_cli.fake_model.records import Record
from switchboard_cli.fake_model.settings import Settings
from switchboard_cli.fake_model.streaming import Events, EventStream, StreamOverError
from switchboard_cli.fake_model.striking import Strikes, hold_or_cut

JSON_HEADERS = {"Content-Type": "application/json"}
_STREAM_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
_DIMENSIONS_MAX = 16_384


def authorize(settings: Settings, headers: Mapping[str, str]) -> None:
    """Raise RefusedError unless the caller sent the key that is asked for, if any is."""
    if settings.api_key is None:
        return
    sent = headers.get("Authorization")
    if sent is None:
        raise RefusedError(errors.no_key())
    if sent != f"Bearer {settings.api_key}":
        raise RefusedError(errors.wrong_key())


class Exchange:
    """One request on its way through the engine."""

    def __init__(self, *, engine: Engine, request: web.Request, api: Api, record: Record) -> None:
        """Bind what is in force."""
        self._engine = engine
        self._metrics = engine.metrics
        self._settings = engine.settings
        self._pace = engine.pace
        self._script = engine.script
        self._lines = engine.lines
        self._strikes = Strikes(engine.dice.roll())
        self._request = request
        self._api = api
        self._record = record
        self._clock = asyncio.get_running_loop().time
        self._arrived_s = self._clock()
        self._first_token_out = False
        self._held_tokens = 0
        self._finish = "abort"  # until it is better

    async def answer(self) -> web.StreamResponse:
        """Return the response, sent or still to be sent; raise RefusedError or CutError."""
        said = self._read(await self._request.read())
        if self._strikes:
            await self._strikes.before_headers(self._engine.now_s())
        authorize(self._settings, self._request.headers)
        if said is None:
            raise RefusedError(errors.bad_body())
        ask = read_ask(self._api, said)
        model = self._admit(ask)
        await self._engine.gate.enter()
        try:
            return await self._run(ask, model, said)
        finally:
            self._metrics.cached_tokens -= self._held_tokens
            self._metrics.finish(self._finish)
            self._engine.gate.leave()

    def _read(self, body: bytes) -> dict[str, object] | None:
        """Parse and record the body; what is not a JSON object is None."""
        self._record.keep_body(body)
        try:
            said: object = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(said, dict):
            return None
        fields = cast("dict[str, object]", said)
        model = fields.get("model")
        self._record.model = model if isinstance(model, str) else None
        self._record.stream = fields.get("stream") is True
        return fields

    def _admit(self, ask: Ask) -> str:
        """Return the served model that answers; raise RefusedError if none can."""
        settings = self._settings
        if ask.model in settings.models:
            model = ask.model
        elif settings.any_model:
            model = settings.models[0]
        else:
            raise RefusedError(errors.unknown_model(ask.model))
        if 0 < settings.context_window < ask.prompt_tokens:
            exceeded = errors.context_exceeded(
                window=settings.context_window,
                prompt_tokens=ask.prompt_tokens,
                param=self._api.prompt_field,
            )
            raise RefusedError(exceeded)
        return model

    async def _run(self, ask: Ask, model: str, said: dict[str, object]) -> web.StreamResponse:
        """Answer, now that it is this request's turn."""
        self._metrics.prompt_tokens += ask.prompt_tokens
        ttft_s = self._pace.first_token_s(self._engine.gate.running - 1)
        if self._api is Api.EMBEDDINGS:
            body = self._embed(ask, model, said)
            return await self._send_whole(body, ttft_s=ttft_s, tokens=0, finish="stop")
        answer_id = self._engine.next_id()
        made = answers.compose(
            ask,
            self._script,
            answer_id=answer_id,
            answer_tokens=self._settings.answer_tokens,
            refuse=self._strikes.have(Kind.REFUSAL),
            cue=self._lines.answer_to(ask),
            confidence=self._settings.confidence if self._settings.logprobs else None,
        )
        tokens = len(made.pieces)
        self._held_tokens = ask.prompt_tokens + tokens
        self._metrics.cached_tokens += self._held_tokens
        envelope = Envelope(
            id=answers.ID_PREFIX[self._api] + answer_id,
            created=int(self._record.received_s),
            model=model,
            fingerprint=self._settings.name,
        )
        if ask.stream:
            return await self._send_stream(self._events(ask, made, envelope), ttft_s, made.finish)
        body = answers.whole_body(self._api, made, envelope, prompt_tokens=ask.prompt_tokens)
        return await self._send_whole(body, ttft_s=ttft_s, tokens=tokens, finish=made.finish)

    def _embed(self, ask: Ask, model: str, said: dict[str, object]) -> bytes:
        dimensions = said.get("dimensions")
        if not isinstance(dimensions, int) or not 0 < dimensions <= _DIMENSIONS_MAX:
            dimensions = self._settings.embedding_dimensions
        return embeddings.render_embeddings(
            ask.texts,
            model=model,
            dimensions=dimensions,
            in_base64=said.get("encoding_format") == "base64",
            prompt_tokens=ask.prompt_tokens,
        )

    async def _send_whole(
        self, body: bytes, *, ttft_s: float, tokens: int, finish: str
    ) -> web.StreamResponse:
        """Send a JSON body once the last of its tokens is due."""
        queued_s = self._clock() - self._arrived_s
        wait_s = ttft_s + self._pace.tokens_s(tokens)
        if wait_s:
            await asyncio.sleep(wait_s)
        self._metrics.observe_first_token(queued_s + ttft_s)
        self._metrics.generation_tokens += tokens
        response: web.StreamResponse = web.Response(body=body, headers=JSON_HEADERS)
        if self._strikes:
            response = await self._send_struck(body)
        self._finish = finish
        return response

    async def _send_struck(self, body: bytes) -> web.StreamResponse:
        """Send a JSON body, or what goes out in its place, so that a fault can part it."""
        if self._strikes.have(Kind.GARBAGE):
            body = answers.GARBAGE
        elif self._strikes.have(Kind.ERROR_EVENT):
            body = errors.from_status(500).to_bytes()
        response = web.StreamResponse(headers=JSON_HEADERS)
        response.content_length = len(body)
        await response.prepare(self._request)
        middle = len(body) // 2
        for point, part in (
            (Point.AFTER_HEADERS, b""),
            (Point.BEFORE_FIRST_TOKEN, body[:middle]),
            (Point.AFTER_TOKENS, body[middle:]),
        ):
            for fault in self._strikes.due(point):
                await hold_or_cut(fault)
            await response.write(part)
        return response

    def _events(self, ask: Ask, made: Answer, envelope: Envelope) -> Events:
        """Render the whole stream."""
        head = answers.chunk_head(self._api, envelope, include_usage=ask.include_usage)
        tails = answers.stream_tails(self._api, made, self._script)
        ending = head + tails.closing
        done = b"" if self._strikes.have(Kind.NO_DONE) else answers.DONE
        if ask.include_usage:
            ending += answers.usage_chunk(
                self._api, envelope, prompt_tokens=ask.prompt_tokens, tokens=len(tails.tokens)
            )
        return Events(
            opening=head + tails.opening if tails.opening else b"",
            tokens=[head + tail for tail in tails.tokens],
            ending=ending + done,
            error=answers.error_event(errors.from_status(500).to_bytes()) + done,
        )

    async def _send_stream(self, events: Events, ttft_s: float, finish: str) -> web.StreamResponse:
        if not self._strikes and not ttft_s and self._pace.unlimited:
            self._finish = finish
            return self._stream_at_once(events)
        response = web.StreamResponse(headers=_STREAM_HEADERS)
        await response.prepare(self._request)
        stream = EventStream(
            response, strikes=self._strikes, pace=self._pace, on_tokens=self._count_tokens
        )
        try:
            await stream.send(events, ttft_s=ttft_s)
            self._finish = finish
        except StreamOverError:
            self._finish = "error"
        return response

    def _stream_at_once(self, events: Events) -> web.StreamResponse:
        """Return a stream that nothing holds up as one write."""
        self._count_tokens(len(events.tokens))
        body = b"".join((events.opening, *events.tokens, events.ending))
        response = web.Response(body=body, headers=_STREAM_HEADERS)
        if self._request.version >= HttpVersion11:
            response.enable_chunked_encoding()
        return response

    def _count_tokens(self, count: int) -> None:
        """Count tokens that go out; the first of them tells the time to first token."""
        if not self._first_token_out:
            self._first_token_out = True
            self._metrics.observe_first_token(self._clock() - self._arrived_s)
        self._metrics.generation_tokens += count
