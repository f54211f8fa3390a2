"""The control endpoints."""

from unit.fake_model.caller import CHAT, StartFake, ask


async def test_control_shows_settings_counters_and_request_heads(start_fake: StartFake) -> None:
    fake = await start_fake(name="north", api_key="secret", faults=[{"kind": "cut", "count": 0}])
    fake.headers = {"Authorization": "Bearer secret", "X-Tag": "a"}
    await fake.chat(stream=True)
    await fake.send("GET", "/v1/models")
    await fake.send("GET", "/nowhere")
    fake.headers["User-Agent"] = "prometheus"
    await fake.send("GET", "/metrics")
    shown = await fake.control()
    assert shown["name"] == shown["settings"]["name"] == "north"
    assert shown["settings"]["api_key"] == "***"
    assert shown["settings"]["faults"][0]["remaining"] == 0
    assert shown["counters"]["by_path"] == {CHAT: 1, "/v1/models": 1, "other": 1}
    assert (shown["counters"]["seen"], shown["counters"]["answered"]) == (3, 2)
    assert shown["counters"]["metrics_by_reader"] == {"prometheus": 1}
    chat, _, nowhere = shown["requests"]
    assert (chat["model"], chat["stream"], chat["outcome"]) == ("fake-model", True, "answered")
    assert (chat["authorization"], chat["headers"]["x-tag"]) == (True, "a")
    assert (nowhere["path"], nowhere["outcome"]) == ("/nowhere", "error")
    assert "secret" not in str(shown)


async def test_requests_are_kept_whole_up_to_a_number(start_fake: StartFake) -> None:
    fake = await start_fake(recorded_requests=3)
    fake.headers = {"Authorization": "Bearer theirs"}
    for number in range(5):
        await fake.chat(f"number {number}")
    await fake.send("POST", CHAT, b'{"odd" : 1')
    kept = (await fake.send("GET", "/control/requests")).json
    assert [request["number"] for request in kept] == [4, 5, 6]
    assert kept[0]["body"] == ask("number 3")
    assert kept[0]["headers"]["authorization"] == "Bearer theirs"
    assert (kept[2]["body"], kept[2]["body_text"]) == (None, '{"odd" : 1')
    last = (await fake.send("GET", "/control/requests?last=1")).json
    assert last == kept[2:]
    assert (await fake.send("GET", "/control/requests?last=0")).json == []


async def test_last_must_be_a_number(start_fake: StartFake) -> None:
    fake = await start_fake()
    reply = await fake.send("GET", "/control?last=-1")
    assert (reply.status, reply.json["error"]["param"]) == (400, "last")


async def test_a_change_holds_for_the_next_request(start_fake: StartFake) -> None:
    fake = await start_fake()
    changed = await fake.send("PATCH", "/control", {"name": "south", "answer_tokens": 3})
    assert (changed.status, changed.json["settings"]["answer_tokens"]) == (200, 3)
    assert (await fake.chat()).json["choices"][0]["message"]["content"] == "This is south"


async def test_a_change_of_something_else_leaves_fault_counts_alone(start_fake: StartFake) -> None:
    fake = await start_fake(faults=[{"kind": "status", "count": 2}])
    await fake.chat()
    shown = (await fake.send("PATCH", "/control", {"ttft_ms": 1})).json
    assert shown["settings"]["faults"][0]["remaining"] == 1
    shown = (await fake.send("PATCH", "/control", {"seed": 1})).json
    assert shown["settings"]["faults"][0]["remaining"] == 2


async def test_an_unknown_field_is_refused_with_the_known_ones(start_fake: StartFake) -> None:
    fake = await start_fake()
    reply = await fake.send("PATCH", "/control", {"answer_tokens": 3, "speed": 9})
    error = reply.json["error"]
    assert (reply.status, error["param"]) == (400, "speed")
    assert "ttft_ms" in error["message"]
    assert (await fake.control())["settings"]["answer_tokens"] == 16, "nothing of it is applied"


async def test_a_wrong_value_is_refused_by_name(start_fake: StartFake) -> None:
    fake = await start_fake()
    for patch, param in (
        ({"jitter": 2}, "jitter"),
        ({"faults": [{"kind": "cut"}, {"kind": "status", "status": 200}]}, "faults[1]"),
        ({"faults": [7]}, "faults"),
        ([], None),
    ):
        reply = await fake.send("PATCH", "/control", patch)
        assert (reply.status, reply.json["error"]["param"]) == (400, param)
    assert (await fake.send("PATCH", "/control", b"{")).status == 400


async def test_reset_goes_back_to_the_start(start_fake: StartFake) -> None:
    fake = await start_fake(name="north", faults=[{"kind": "status", "count": 1}])
    first = await fake.control()
    await fake.chat()
    await fake.chat()
    await fake.send("PATCH", "/control", {"name": "south", "faults": []})
    await fake.send("POST", "/control/reset")
    assert await fake.control() == first
    assert (await fake.send("GET", "/metrics")).body.count(b"_total") > 0
    assert (await fake.chat()).status == 500
