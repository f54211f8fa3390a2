"""Whatever the entry: bytes are canonical, and decoding trusts nothing."""

from hypothesis import given
from hypothesis import strategies as st

from switchboard_policy.codec import decode, encode
from switchboard_policy.errors import EntryRefused
from switchboard_policy.ir import (
    Backend,
    Balance,
    Breaker,
    Capabilities,
    Credential,
    Endpoint,
    Endpoints,
    Entry,
    Guardrail,
    HashKey,
    HeaderMatch,
    Health,
    Hedge,
    Match,
    Member,
    Policy,
    Pricing,
    Probe,
    Queue,
    Rule,
    Scorer,
    Spill,
    Telemetry,
    Tier,
    Timeouts,
)
from switchboard_policy.seal import fingerprint

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
COUNT = st.integers(0, 10**12)
MAYBE = st.none() | COUNT
FEW = 3


def some(of: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(of, max_size=FEW).map(tuple)


APIS = some(st.sampled_from(["chat", "completions", "embeddings"]))
TIERS = st.builds(
    Tier,
    name=TEXT,
    members=some(st.builds(Member, backend=TEXT, weight=MAYBE)),
    balance=st.builds(
        Balance,
        by=st.sampled_from(["Latency", "Load", "Cost", "Locality", "Hash", "Scorers"]),
        key=st.none()
        | st.builds(
            HashKey,
            source=st.sampled_from(["header", "user", "session", "prompt_prefix"]),
            header=TEXT,
            prefix_bytes=COUNT,
        ),
        scorers=some(
            st.builds(Scorer, by=st.sampled_from(["Latency", "Load", "Cost"]), weight=COUNT)
        ),
    ),
    spill=st.none() | st.builds(Spill, queue_wait_ms=MAYBE, in_flight_permille=MAYBE),
)
MATCHES = st.builds(
    Match,
    apis=APIS,
    tags=some(TEXT),
    headers=some(st.builds(HeaderMatch, name=TEXT, value=st.none() | TEXT)),
    keywords=some(TEXT),
    tokens_min=MAYBE,
    tokens_max=MAYBE,
    system_prompt=some(TEXT),
)
POLICIES = st.builds(
    Policy,
    name=TEXT,
    models=some(TEXT),
    rules=some(st.builds(Rule, name=TEXT, tiers=some(TIERS), match=st.none() | MATCHES, when=TEXT)),
    guardrails=some(st.builds(Guardrail, name=TEXT, policy=TEXT, forbids=some(TEXT), when=TEXT)),
    namespace_rank=COUNT,
    priority=st.integers(-1000, 1000),
    attempts=st.sampled_from([1, 3, 7]),
    deadline_ms=st.sampled_from([1, 120_000]),
    retry_budget_permille=st.sampled_from([0, 200]),
    max_retry_after_wait_ms=st.sampled_from([0, 3_000]),
    hedge=st.none() | st.builds(Hedge, after_ms=COUNT, budget_permille=COUNT),
    max_ejected_permille=st.sampled_from([0, 500]),
    restart_within_chars=st.sampled_from([0, 200]),
)
BACKENDS = st.builds(
    Backend,
    name=TEXT,
    uid=TEXT,
    model=TEXT,
    provider=st.sampled_from(["openai", "openai-compatible"]),
    external=st.booleans(),
    url=TEXT,
    credential=TEXT,
    capabilities=st.builds(
        Capabilities,
        apis=st.none() | APIS,
        tools=st.none() | st.booleans(),
        json_schema=st.none() | st.booleans(),
        context_window_tokens=MAYBE,
        max_output_tokens=MAYBE,
    ),
    pricing=st.none()
    | st.builds(
        Pricing,
        input_picodollars=COUNT,
        cached_input_picodollars=MAYBE,
        output_picodollars=COUNT,
    ),
    max_in_flight=MAYBE,
    queue=st.none() | st.builds(Queue, max_waiting=COUNT, max_wait_ms=COUNT),
    wake_hold_ms=st.sampled_from([0, 30_000]),
    telemetry=st.none()
    | st.builds(
        Telemetry,
        engine=st.sampled_from(["vllm", "sglang"]),
        path=TEXT,
        interval_ms=st.sampled_from([1_000, 60_000]),
    ),
    timeouts=st.builds(Timeouts, connect_ms=COUNT, total_ms=st.sampled_from([1, 300_000])),
    health=st.builds(
        Health,
        probe=st.none() | st.builds(Probe, path=TEXT, interval_ms=st.sampled_from([1, 5_000])),
        breaker=st.builds(Breaker, open_for_ms=st.sampled_from([1, 10_000])),
        slow_start_ms=st.sampled_from([0, 30_000]),
    ),
)
ENTRIES: st.SearchStrategy[Entry] = st.one_of(
    POLICIES,
    BACKENDS,
    st.builds(
        Endpoints,
        backend=TEXT,
        addresses=some(st.builds(Endpoint, address=TEXT, zone=TEXT)),
        terminating=st.booleans(),
    ),
    st.builds(Credential, backend=TEXT, key_id=TEXT, sealed=st.binary(max_size=40)),
)


@given(ENTRIES)
def test_decoding_is_the_inverse_of_encoding_and_encoding_is_canonical(entry: Entry) -> None:
    encoded = encode(entry)
    again = decode(encoded.body, digest=encoded.digest)
    assert again == entry
    assert encode(again) == encoded


@given(ENTRIES, ENTRIES)
def test_digests_are_equal_exactly_where_entries_are(one: Entry, other: Entry) -> None:
    assert (encode(one).digest == encode(other).digest) == (one == other)


@given(ENTRIES, st.data())
def test_damaged_bytes_are_refused_or_an_entry_and_nothing_else(
    entry: Entry, data: st.DataObject
) -> None:
    body = bytearray(encode(entry).body)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(body[: data.draw(st.integers(0, len(body)))])
    try:
        found = decode(damaged, digest=fingerprint(damaged))
    except EntryRefused:
        return
    assert isinstance(found, Entry)


@given(st.binary(max_size=200))
def test_bytes_by_chance_are_refused(body: bytes) -> None:
    try:
        decode(body, digest=fingerprint(body))
    except EntryRefused:
        return
    raise AssertionError("so few bytes are no entry")
