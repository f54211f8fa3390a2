"""Splicing changes the values that it is told to, and no other byte."""

import json
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from switchboard_dataplane.wire.splice import put_in_front, splice, splice_model, top_level_values

# Keys that provoke: the key itself, inside strings, escaped, nested.
KEYS = (
    st.sampled_from(["model", 'mod"el', 'x\\"model', "Model", "stream", 'model"', "é", ""])
    | st.text()
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(['"model":', '{"model": "x"}', "\\", '\\"', "}", "]", '","model":"'])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=6)
SPACES = st.text(" \t\r\n", max_size=3)


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """Write a value with any spaces and any of JSON's spellings."""
    if isinstance(value, dict):
        members = [
            f"{draw(SPACES)}{draw(spelled(key))}{draw(SPACES)}:{draw(SPACES)}{draw(written(one))}"
            for key, one in value.items()
        ]
        return "{" + ",".join(members) + draw(SPACES) + "}"
    if isinstance(value, list):
        return "[" + ",".join(draw(SPACES) + draw(written(one)) for one in value) + "]"
    if isinstance(value, str):
        return draw(spelled(value))
    return json.dumps(value) + draw(SPACES)


@st.composite
def spelled(draw: st.DrawFn, text: str) -> str:
    """Write a string with some of its characters escaped though they need not be."""
    quoted = json.dumps(text, ensure_ascii=draw(st.booleans()))
    if draw(st.booleans()) and text and text.isalpha() and text.isascii():
        place = draw(st.integers(0, len(text) - 1))
        return f'"{text[:place]}\\u{ord(text[place]):04x}{text[place + 1 :]}"'
    return quoted


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    value = draw(OBJECTS) | {"model": draw(SCALARS | VALUES)}
    order = draw(st.permutations(sorted(value)))
    return draw(written({key: value[key] for key in order})).encode()


@given(bodies())
def test_only_the_model_changes(body: bytes) -> None:
    spliced = splice_model(body, b'"spliced"')
    assert json.loads(spliced) == json.loads(body) | {"model": "spliced"}


@given(bodies())
def test_the_short_cut_and_the_scan_give_the_same_bytes(body: bytes) -> None:
    assert splice_model(body, b'"spliced"') == splice(body, {"model": b'"spliced"'})


@given(bodies())
def test_what_is_left_is_the_callers_own_bytes(body: bytes) -> None:
    spans = [span for span in top_level_values(body) if span.key == "model"]
    rest = [body[: spans[0].start], body[spans[-1].end :]]
    spliced = splice_model(body, b"0")
    assert spliced.startswith(rest[0])
    assert spliced.endswith(rest[1])


@given(bodies(), st.lists(KEYS, min_size=1, max_size=3, unique=True))
def test_missing_keys_are_put_in_and_others_replaced(body: bytes, keys: list[str]) -> None:
    values = {key: orjson.dumps({"number": number}) for number, key in enumerate(keys)}
    expected = json.loads(body) | {key: json.loads(value) for key, value in values.items()}
    assert json.loads(splice(body, values)) == expected


@given(bodies())
def test_the_scan_finds_every_value_of_the_object(body: bytes) -> None:
    found = {span.key: json.loads(body[span.start : span.end]) for span in top_level_values(body)}
    assert found == json.loads(body)


@given(OBJECTS.filter(lambda value: "new" not in value), SPACES)
def test_a_member_is_put_in_front_of_any_object(value: dict[str, Any], space: str) -> None:
    body = json.dumps(value).replace("{", "{" + space, 1).encode()
    assert json.loads(put_in_front(body, {"new": b"1"})) == {"new": 1} | value


@given(st.lists(VALUES, min_size=2, max_size=4))
def test_duplicates_are_all_replaced(values: list[Any]) -> None:
    members = ",".join(f'"model":{json.dumps(value)}' for value in values)
    spliced = splice_model(f"{{{members}}}".encode(), b'"x"')
    pairs = json.loads(spliced, object_pairs_hook=lambda pairs: pairs)
    assert pairs == [("model", "x")] * len(values)


@given(OBJECTS | VALUES.filter(lambda value: isinstance(value, dict)))
def test_the_parsers_agree_on_what_is_spliced(value: dict[str, Any]) -> None:
    body = json.dumps(value | {"model": "m"}).encode()
    assert orjson.loads(splice_model(body, b'"n"'))["model"] == "n"
