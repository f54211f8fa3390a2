"""The OpenAI endpoints over a real socket."""

import asyncio

from fakes.virtual_time import now_s
from unit.fake_model.caller import CHAT, StartFake, ask

PROMPT_S = 0.5
"""For what takes a tenth of a second."""


async def test_a_whole_answer_says_who_answered_and_what_it_cost(start_fake: StartFake) -> None:
    fake = await start_fake(name="north", models=["small", "large"], answer_tokens=6)
    reply = await fake.chat("12345678", model="large")
    body = reply.json
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert (body["object"], body["model"]) == ("chat.completion", "large")
    choice = body["choices"][0]
    assert choice["message"]["content"].startswith("This is north answering:")
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] == "stop"
    assert body["usage"] == {
        "prompt_tokens": 2,
        "completion_tokens": 6,
        "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


async def test_a_stream_has_its_chunks_in_order(start_fake: StartFake) -> None:
    fake = await start_fake(answer_tokens=5)
    reply = await fake.chat(stream=True, stream_options={"include_usage": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["transfer-encoding"] == "chunked"
    assert reply.data[-1] == b"[DONE]"
    role, *tokens, finish, usage = reply.chunks
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [set(token["choices"][0]["delta"]) for token in tokens] == [{"content"}] * 5
    assert all(token["choices"][0]["finish_reason"] is None for token in (role, *tokens))
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert finish["choices"][0]["delta"] == {}
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 5)
    assert all(chunk["usage"] is None for chunk in (role, *tokens, finish))
    assert len({chunk["id"] for chunk in reply.chunks}) == 1
    assert {chunk["object"] for chunk in reply.chunks} == {"chat.completion.chunk"}


async def test_a_stream_has_usage_only_on_request(start_fake: StartFake) -> None:
    fake = await start_fake()
    reply = await fake.chat(stream=True)
    assert not any("usage" in chunk for chunk in reply.chunks)


async def test_a_paced_stream_says_the_same_as_one_at_once(start_fake: StartFake) -> None:
    fake = await start_fake(answer_tokens=20)
    at_once = await fake.chat(stream=True)
    await fake.send("PATCH", "/control", {"ttft_ms": 1, "tokens_per_second": 5000, "jitter": 1})
    paced = await fake.chat(stream=True)
    assert paced.words == at_once.words
    assert len(paced.data) == len(at_once.data)


async def test_max_tokens_cut_the_answer(start_fake: StartFake) -> None:
    fake = await start_fake()
    for field in ("max_tokens", "max_completion_tokens"):
        body = {**ask(), field: 3}
        whole = (await fake.send("POST", CHAT, body)).json
        stream = await fake.send("POST", CHAT, {**body, "stream": True})
        assert whole["choices"][0]["finish_reason"] == "length"
        assert whole["usage"]["completion_tokens"] == len(stream.words) == 3
        assert stream.chunks[-1]["choices"][0]["finish_reason"] == "length"


async def test_a_fixed_text_comes_whole_and_streamed(start_fake: StartFake) -> None:
    fake = await start_fake(answer_text="Forty two.\n")
    assert (await fake.chat()).json["choices"][0]["message"]["content"] == "Forty two.\n"
    assert "".join((await fake.chat(stream=True)).words) == "Forty two.\n"


async def test_completions_answer_whole_and_streamed(start_fake: StartFake) -> None:
    fake = await start_fake(answer_tokens=4)
    body = {"model": "fake-model", "prompt": "once"}
    whole = (await fake.send("POST", "/v1/completions", body)).json
    stream = await fake.send("POST", "/v1/completions", {**body, "stream": True})
    assert whole["object"] == "text_completion"
    assert whole["choices"][0]["text"] == "This is fake answering:"
    texts = [chunk["choices"][0]["text"] for chunk in stream.chunks]
    assert "".join(texts) == "This is fake answering:"
    assert stream.chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert stream.data[-1] == b"[DONE]"


async def test_ids_are_unique(start_fake: StartFake) -> None:
    fakes = [await start_fake() for _ in range(2)]
    ids = {(await fake.chat()).json["id"] for fake in fakes for _ in range(3)}
    assert len(ids) == 6


async def test_a_tool_call_comes_whole_and_streamed(start_fake: StartFake) -> None:
    fake = await start_fake(name="north")
    parameters = {"type": "object", "properties": {"place": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "look", "parameters": parameters}}]
    whole = (await fake.chat("call:look", tools=tools)).json["choices"][0]
    assert whole["finish_reason"] == "tool_calls"
    call = whole["message"]["tool_calls"][0]
    assert call["function"] == {"name": "look", "arguments": '{"place":"north"}'}
    stream = await fake.chat("call:look", tools=tools, stream=True)
    first, *pieces = [
        chunk["choices"][0]["delta"]["tool_calls"][0]
        for chunk in stream.chunks
        if chunk["choices"][0]["delta"]
    ]
    assert (first["type"], first["function"]["name"]) == ("function", "look")
    assert first["id"] != call["id"]
    assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"place":"north"}'
    assert stream.chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_response_format_is_followed(start_fake: StartFake) -> None:
    fake = await start_fake(name="north")
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    by_schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    for wanted, content in (
        (by_schema, '{"n":1}'),
        ({"type": "json_object"}, '{"answer":"north"}'),
    ):
        whole = (await fake.chat(response_format=wanted)).json
        assert whole["choices"][0]["message"]["content"] == content
        assert "".join((await fake.chat(response_format=wanted, stream=True)).words) == content


async def test_embeddings_have_the_wanted_length(start_fake: StartFake) -> None:
    fake = await start_fake(embedding_dimensions=8)
    body = {"model": "fake-model", "input": ["abcd", "efgh"]}
    reply = (await fake.send("POST", "/v1/embeddings", body)).json
    assert [len(item["embedding"]) for item in reply["data"]] == [8, 8]
    assert reply["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    shorter = (await fake.send("POST", "/v1/embeddings", {**body, "dimensions": 4})).json
    assert len(shorter["data"][0]["embedding"]) == 4


async def test_models_health_and_metrics_answer(start_fake: StartFake) -> None:
    fake = await start_fake(models=["a", "b"], context_window=4096)
    models = (await fake.send("GET", "/v1/models")).json["data"]
    assert [(model["id"], model["max_model_len"]) for model in models] == [("a", 4096), ("b", 4096)]
    assert (await fake.send("GET", "/health")).status == 200
    await fake.chat(model="b", max_tokens=2)
    text = (await fake.send("GET", "/metrics")).body.decode()
    assert 'vllm:generation_tokens_total{engine="0",model_name="a"} 2.0' in text
    assert 'vllm:request_success_total{finished_reason="length",engine="0",model_name="a"} 1.0' in (
        text
    )
    await fake.send("PATCH", "/control", {"healthy": False})
    assert (await fake.send("GET", "/health")).status == 503


async def test_an_unknown_model_is_refused_unless_any_will_do(start_fake: StartFake) -> None:
    fake = await start_fake()
    reply = await fake.chat(model="other")
    assert (reply.status, reply.json["error"]["code"]) == (404, "model_not_found")
    await fake.send("PATCH", "/control", {"any_model": True})
    assert (await fake.chat(model="other")).json["model"] == "fake-model"


async def test_a_key_is_asked_for_everywhere_under_v1(start_fake: StartFake) -> None:
    fake = await start_fake(api_key="right")
    for path, method in ((CHAT, "POST"), ("/v1/models", "GET")):
        fake.headers = {}
        missing = await fake.send(method, path, ask())
        fake.headers = {"Authorization": "Bearer wrong"}
        wrong = await fake.send(method, path, ask())
        fake.headers = {"Authorization": "Bearer right"}
        right = await fake.send(method, path, ask())
        assert [reply.status for reply in (missing, wrong, right)] == [401, 401, 200]
        assert wrong.json["error"]["code"] == "invalid_api_key"
        assert missing.json["error"]["type"] == "invalid_request_error"


async def test_a_prompt_over_the_window_is_openais_error(start_fake: StartFake) -> None:
    fake = await start_fake(context_window=10)
    assert (await fake.chat("a" * 40)).status == 200
    reply = await fake.chat("a" * 41)
    assert reply.status == 400
    assert reply.json["error"] == {
        "message": (
            "This model's maximum context length is 10 tokens. However, your messages resulted in "
            "11 tokens. Please reduce the length of the messages."
        ),
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }


async def test_a_body_that_is_not_a_json_object_is_refused(start_fake: StartFake) -> None:
    fake = await start_fake()
    for body in (b"{", b"[]", b"\xff", b""):
        reply = await fake.send("POST", CHAT, body)
        assert (reply.status, reply.json["error"]["type"]) == (400, "invalid_request_error")


async def test_an_unknown_url_is_openais_404(start_fake: StartFake) -> None:
    fake = await start_fake()
    for method, path in (("POST", "/v1/v1/models"), ("GET", CHAT)):
        reply = await fake.send(method, path)
        assert reply.status == 404
        assert reply.json["error"]["message"] == f"Invalid URL ({method} {path})"


async def test_pace_is_time_to_first_token_and_tokens_per_second(start_fake: StartFake) -> None:
    fake = await start_fake(ttft_ms=40, tokens_per_second=100, answer_tokens=5)
    for stream in (True, False):
        started_s = now_s()
        await fake.chat(stream=stream)
        assert 0.08 <= now_s() - started_s < PROMPT_S


async def test_headers_come_before_the_first_token(start_fake: StartFake) -> None:
    fake = await start_fake(ttft_ms=60_000)
    reader, writer = await fake.open_stream()
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_each_running_request_slows_the_next_one_down(start_fake: StartFake) -> None:
    forever = {"kind": "stall", "at": "before-first-token", "count": 2}
    fake = await start_fake(load_ttft_ms=100, faults=[forever])
    others = [await fake.open_stream() for _ in range(2)]
    await fake.settle(running=2)
    started_s = now_s()
    await fake.chat()
    assert 0.2 <= now_s() - started_s < PROMPT_S
    for _, writer in others:
        writer.close()


async def test_requests_over_the_limit_wait_and_are_counted(start_fake: StartFake) -> None:
    fake = await start_fake(max_running=2, ttft_ms=80, kv_cache_tokens=36)
    asked = [asyncio.create_task(fake.chat("ab")) for _ in range(5)]
    await fake.settle(running=2, waiting=3, in_flight=5)
    text = (await fake.send("GET", "/metrics")).body.decode()
    assert 'vllm:num_requests_running{engine="0",model_name="fake-model"} 2.0' in text
    assert 'vllm:num_requests_waiting{engine="0",model_name="fake-model"} 3.0' in text
    assert 'vllm:kv_cache_usage_perc{engine="0",model_name="fake-model"} 0.94' in text
    assert [reply.status for reply in await asyncio.gather(*asked)] == [200] * 5
    await fake.settle(running=0, waiting=0, in_flight=0, answered=5)
