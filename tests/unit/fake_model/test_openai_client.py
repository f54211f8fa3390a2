"""OpenAI's own client understands what the fake model says."""

from collections.abc import AsyncGenerator

import openai
import pytest
from pydantic import BaseModel

from unit.fake_model.caller import StartFake


class Weather(BaseModel):
    """What the structured answer has to look like."""

    place: str
    degrees: int


@pytest.fixture
async def client(start_fake: StartFake) -> AsyncGenerator[openai.AsyncOpenAI]:
    fake = await start_fake(name="north", api_key="k", context_window=100, answer_tokens=5)
    url = f"{fake.serving.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:
        yield client


async def test_a_stream_is_read_to_its_usage(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="fake-model",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "This is north answering: a"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5


async def test_a_structured_answer_is_parsed(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.parse(
        model="fake-model",
        messages=[{"role": "user", "content": "hi"}],
        response_format=Weather,
    )
    assert answer.choices[0].message.parsed == Weather(place="north", degrees=1)


async def test_embeddings_are_unpacked(client: openai.AsyncOpenAI) -> None:
    answer = await client.embeddings.create(model="fake-model", input="hi")
    assert len(answer.data[0].embedding) == 64


async def test_errors_have_their_types(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await client.completions.create(model="other", prompt="hi")
    with pytest.raises(openai.BadRequestError) as refused:
        await client.completions.create(model="fake-model", prompt="hi" * 1000)
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="wrong").models.list()
