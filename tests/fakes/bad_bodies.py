"""Bodies that a data plane must refuse, by reason: no JSON, or fields that cannot be."""

from collections.abc import Mapping
from typing import Final

from fakes.wire_requests import (
    COUNT,
    EMBED,
    HELLO,
    JSON,
    M0,
    MISSING,
    MODEL,
    MODELS,
    OBJECT,
    OPEN,
    TEXT,
    TYPE,
    VALUE,
    WHOLE,
    Reason,
    Row,
    content,
    embed,
    ended,
    not_json,
    only,
    plain,
    prompt,
    said,
    tail,
    typed,
    wire,
)

NOT_JSON: Final[Mapping[Reason, list[Row]]] = {
    not_json("a word that is no value"): [
        ended(b',"temperature":NaN}', "NaN"),
        ended(b',"temperature":Infinity}', "Infinity"),
        ended(b',"stream":True}', "True"),
        ended(b',"stream":None}', "None"),
        ended(b',"stream":undefined}', "undefined"),
        ended(b',"stream":tru}', "tru}"),
    ],
    not_json("a number without digits"): [
        ended(b',"temperature":-Infinity}', "-Infinity"),
        ended(b',"seed":+1}', "+1"),
        ended(b',"seed":.5}', ".5"),
        ended(b',"seed":5.}', "5."),
        ended(b',"seed":1e}', "1e}"),
        ended(b',"seed":-}', ":-}"),
    ],
    not_json("a number out of range"): [
        ended(b',"max_tokens":1e400}', "1e400"),
        ended(b',"seed":-1e999}', "1e999"),
        ended(b',"seed":' + b"9" * 400 + b"}", "9999"),
    ],
    not_json("a number of another language"): [
        ended(b',"seed":0x1F}', "0x1F"),
        ended(b',"seed":1_000}', "1_000"),
        ended(b',"seed":01}', "01"),
    ],
    not_json("a control character in a string"): [
        ended(b',"user":"a\x00b"}', r"a\x00b"),
        ended(b',"user":"a\tb"}', r"a\tb"),
        ended(b',"user":"a\nb"}', r"a\nb"),
    ],
    not_json("an escape that is none"): [
        ended(b',"user":"\\x41"}', r"\\x41"),
        ended(b',"user":"\\u12"}', r"\\u12"),
        ended(b',"user":"it\\\'s"}', "it"),
    ],
    not_json("a lone surrogate"): [
        ended(b',"user":"\\ud800"}', r"\\ud800"),
        ended(b',"user":"\\udc00\\ud800"}', r"\\udc00"),
        ended(b',"user":"\\ud83dx"}', r"\\ud83d"),
    ],
    not_json("a byte order mark"): [
        plain(b"\xef\xbb\xbf" + WHOLE, "byte order mark"),
        plain(b"\xef\xbb\xbf{}", "byte order mark"),
    ],
    Reason("not UTF-8", JSON, "send JSON in UTF-8"): [
        ended(b',"user":"caf\xe9"}', "byte 71 is 0xe9"),
        ended(b',"user":"\xc0\xaf"}', "byte 68 is 0xc0"),
        ended(b',"user":"\xed\xa0\x80"}', "byte 68 is 0xed"),
        ended(b',"user":"\x80"}', "byte 68 is 0x80"),
        ended(b',"user":"\xf0\x9f', "byte 68 is 0xf0"),
        plain(WHOLE.decode().encode("utf-16"), "byte 0 is 0xff"),
        plain(WHOLE.decode().encode("utf-32"), "byte 0 is 0xff"),
        plain(b"\x1f\x8b\x08\x00", "byte 1 is 0x8b"),
    ],
    not_json("a key that is no string"): [
        plain(b'{model:"good"}', "{model:"),
        plain(b"{'model':'good'}", "{'model'"),
        plain(b"{,}", "{,}"),
        plain("{\u201cmodel\u201d:1}".encode(), "\u201cmodel"),
        plain(b'{1:"good"}', "{1:"),
        plain(WHOLE.decode().encode("utf-16-le"), r"{\x00"),
    ],
    not_json("nested too deeply"): [
        plain(b'{"a":' * 5000 + b"1" + b"}" * 5000, '{"a":{"a"'),
        plain(b"[" * 100_000, "[[[["),
        ended(b',"metadata":' + b'{"a":' * 2000 + b"1" + b"}" * 2001, '{"a":{"a"'),
        ended(b',"tools":' + b"[" * 3000 + b"]" * 3000 + b"}", "[[[["),
    ],
    not_json("more than one document"): [
        plain(WHOLE + b"{}", "}{}"),
        plain(WHOLE + b" x", "} x"),
        plain(WHOLE + b"\n" + WHOLE, r"}\n{"),
        plain(WHOLE + b"]", "}]"),
    ],
    not_json("a comma at the end"): [
        plain(OPEN + b",}", ",}"),
        ended(b',"tools":[1,]}', "[1,]"),
    ],
    not_json("cut off"): [
        plain(b'{"model":"goo', '{"model":"goo'),
        plain(OPEN, "}]"),
        plain(b'{"messages":[', "[" + "'"),
        plain(b"{", "near '{'"),
        plain(b'{"model":', '{"model":'),
    ],
    not_json("no colon or comma"): [
        plain(b'{"model" "good"}', '"model" "good"'),
        plain(b'{"model":"good" "messages":[]}', '"good" "messages"'),
        plain(b'{"model"}', '{"model"}'),
        plain(b'["a" "b"]', '"a" "b"'),
    ],
    not_json("another format"): [
        plain(b"hello", "hello"),
        plain(b"model: good\n", "model: good"),
        plain(b"data: {}\n\n", "data: {}"),
        plain(b"<model>good</model>", "<model>"),
        plain(b"/* x */" + WHOLE, "/* x */"),
        plain(b"\x00" * 100, r"\x00"),
        plain(b"\x1e" + WHOLE, r"\x1e{"),
        plain("\u00a0".encode() + WHOLE, r"\xa0{"),
    ],
    Reason("no body", JSON, OBJECT): [
        plain(b"", "the body is empty"),
        plain(b" \r\n\t", "is empty"),
        (None, "the body is empty", wire(length=False)),
        (None, "the body is empty", wire(b"0\r\n\r\n", "Transfer-Encoding: chunked", length=False)),
    ],
    Reason("the body is no object", JSON, OBJECT): [
        plain(b"null", "the body is null"),
        plain(b"[1]", "the body is an array"),
        plain(b"[]", "the body is an empty array"),
        plain(b"7", "the body is the number 7"),
        plain(b"-0.5", "the body is the number -0.5"),
        plain(b'"hi"', "the body is the string 'hi'"),
        plain(b'""', "the body is an empty string"),
        plain(b"true", "the body is true"),
    ],
    Reason("content-type of another format", JSON, "send a JSON object as application/json"): [
        ("content-type", f"content-type is '{kind}'", wire(body, f"Content-Type: {kind}"))
        for kind, body in (
            ("multipart/form-data; boundary=a", b"--a\r\n\r\n1\r\n--a--\r\n"),
            ("application/x-www-form-urlencoded", b"model=good&stream=true"),
            ("text/plain", b"Tell me a joke"),
            ("text/html; charset=utf-8", b"<p>hi"),
            ("application/xml", b"<a/>"),
            ("application/soap+xml", b"<a/>"),
            ("application/yaml", b"model: good"),
            ("text/csv", b"model,good"),
        )
    ],
}

FIELDS: Final[Mapping[Reason, list[Row]]] = {
    Reason("model is missing", MISSING, "the name of a model; GET /v1/models lists them"): [
        ("model", "model is missing", raw)
        for raw in (
            wire(b"{}"),
            only(messages=HELLO),
            said(model=None),
            tail(b',"model":null}'),
            only(TEXT, prompt="x"),
            only(EMBED, input="x"),
        )
    ],
    Reason("a string", TYPE, "send a string"): [
        typed("model", "the number 7", model=7),
        typed("model", "an array", model=["good"]),
        ("model", "the number 7", tail(b',"model":7}')),
        typed("user", "the number 1", user=1),
        typed("user", "an object", user={}),
        typed("response_format.type", "an array", response_format={"type": ["x"]}),
        typed("metadata.team", "the number 1", metadata={"team": 1}),
        typed("metadata.a", "null", metadata={"a": None}),
    ],
    Reason("the length of a model's name", VALUE, "a name of 1..256 characters"): [
        typed("model", "an empty string", model=""),
        typed("model", "the string 'mmm", model="m" * 257),
        typed("model", "the string 'mmm", model="m" * 1_000_000),
    ],
    Reason("a model that nobody serves", "model_not_found", "GET /v1/models lists", 404): [
        ("model", "'nope'", said(model="nope")),
        ("model", "'Good'", said(model="Good")),
        ("model", "' good'", said(model=" good")),
        ("model", "'🦙'", said(model="🦙")),
        ("model", r"'a\x00b'", said(model="a\0b")),
        ("model", "'other'", only(EMBED, model="other", input="x")),
        ("model", "'nope'", wire(path=f"{MODELS}/nope", method="GET")),
        ("model", "''", wire(path=f"{MODELS}/", method="GET")),
    ],
    Reason("messages are missing", MISSING, "send an array of messages"): [
        ("messages", "messages is missing", only(model=MODEL)),
        ("messages", "messages is missing", said(messages=None)),
        ("messages", "messages is missing", tail(b',"messages":null}')),
    ],
    Reason("messages are no array", TYPE, "send an array of messages"): [
        typed("messages", "the string 'hi'", messages="hi"),
        typed("messages", "an object", messages={}),
        typed("messages", "the number 7", messages=7),
        typed("messages", "false", messages=False),
    ],
    Reason("messages are empty", VALUE, "at least one message"): [
        typed("messages", "an empty array", messages=[]),
        ("messages", "an empty array", tail(b',"messages":[]}')),
    ],
    Reason("a message is no object", TYPE, "an object with role and content"): [
        typed(M0, "the string 'hi'", messages=["hi"]),
        typed(M0, "the number 7", messages=[7]),
        typed(M0, "an empty array", messages=[[]]),
        typed("messages[1]", "null", messages=[*HELLO, None]),
    ],
    Reason("a role is missing", MISSING, "a string such as user, assistant or system"): [
        (f"{M0}.role", "is missing", said(messages=[{"content": "x"}])),
        (f"{M0}.role", "is missing", said(messages=[{"role": None, "content": "x"}])),
    ],
    Reason("a role is no string", TYPE, "a string such as user, assistant or system"): [
        typed(f"{M0}.role", "the number 1", messages=[{"role": 1}]),
        typed(f"{M0}.role", "an array", messages=[{"role": ["user"]}]),
        typed("messages[1].role", "an object", messages=[*HELLO, {"role": {}}]),
    ],
    Reason("content of another type", TYPE, "a string, an array of content parts, or null"): [
        (f"{M0}.content", "the number 1", content(1)),
        (f"{M0}.content", "an object", content({"text": "x"})),
        (f"{M0}.content", "true", content(True)),  # noqa: FBT003 - a value of JSON
    ],
    Reason("a content part is no object", TYPE, "an object with type"): [
        (f"{M0}.content[0]", "the number 1", content([1])),
        (f"{M0}.content[0]", "an empty array", content([[]])),
        (f"{M0}.content[1]", "null", content(["x", None])),
    ],
    Reason("a content part without type", MISSING, "a string such as text or image_url"): [
        (f"{M0}.content[0].type", "is missing", content([{}])),
        (f"{M0}.content[0].type", "is missing", content([{"type": None}])),
    ],
    Reason("a content part's type", TYPE, "a string such as text or image_url"): [
        (f"{M0}.content[0].type", "the number 3", content([{"type": 3}])),
        (f"{M0}.content[0].type", "an empty array", content([{"type": []}])),
    ],
    Reason("a content part's text", TYPE, "send a string"): [
        (f"{M0}.content[0].text", "the number 3", content([{"type": "text", "text": 3}])),
        (f"{M0}.content[0].text", "null", content([{"type": "text"}])),
    ],
    Reason("a switch", TYPE, "send true or false"): [
        typed("stream", "the string 'yes'", stream="yes"),
        typed("stream", "the number 1", stream=1),
        typed("stream", "an empty array", stream=[]),
        typed("stream", r"the string '\x00'", stream="\0"),
        ("stream", "'true'", only(TEXT, model=MODEL, prompt="x", stream="true")),
        typed("stream_options.include_usage", "the string 'no'",
              stream_options={"include_usage": "no"}),
        typed("stream_options.include_usage", "the number 1", stream_options={"include_usage": 1}),
    ],
    Reason("an object", TYPE, "send an object"): [
        typed("stream_options", "an empty array", stream_options=[]),
        typed("stream_options", "true", stream_options=True),
        typed("response_format", "the string 'json'", response_format="json"),
        typed("response_format", "an array", response_format=[1]),
        typed("metadata", "an array", metadata=[1]),
        typed("metadata", "the string 'x'", metadata="x"),
    ],
    Reason("an array", TYPE, "send an array"): [
        typed("tools", "an object", tools={}),
        typed("tools", "the string 'x'", tools="x"),
        typed("functions", "the string 'f'", functions="f"),
        typed("functions", "the number 1", functions=1),
    ],
    Reason("a whole number", TYPE, COUNT): [
        typed("max_tokens", "the string '9'", max_tokens="9"),
        typed("max_tokens", "true", max_tokens=True),
        typed("max_tokens", "the number 0.5", max_tokens=0.5),
        typed("max_tokens", "the number 10.0", max_tokens=10.0),
        ("max_tokens", "the number -0.0", tail(b',"max_tokens":-0.0}')),
        ("max_tokens", "1.2345678901234568e+29",
         tail(b',"max_tokens":123456789012345678901234567890}')),
        typed("max_completion_tokens", "an array", max_completion_tokens=[1]),
        typed("max_completion_tokens", "an object", max_completion_tokens={}),
    ],
    Reason("a whole number out of range", VALUE, COUNT): [
        typed("max_tokens", "the number -1", max_tokens=-1),
        typed("max_tokens", "the number 2147483648", max_tokens=2**31),
        typed("max_completion_tokens", "the number 1099511627776", max_completion_tokens=2**40),
        typed("max_completion_tokens", "the number -9223372036854775808",
              max_completion_tokens=-(2**63)),
    ],
    Reason("a prompt of another type", TYPE, "an array of token ids, or an array of such arrays"): [
        ("prompt", "the number 1", prompt(1)),
        ("prompt", "an object", prompt({})),
        ("prompt", "true", prompt(True)),  # noqa: FBT003 - a value of JSON
        ("input", "the number 0.5", embed(0.5)),
        ("input", "an object", embed({"text": "x"})),
        ("input", "false", embed(False)),  # noqa: FBT003 - a value of JSON
    ],
    Reason("an empty prompt", VALUE, "at least one element"): [
        ("prompt", "an empty array", prompt([])),
        ("input", "an empty array", embed([])),
    ],
    Reason("a prompt of many kinds", TYPE, "one kind of element"): [
        ("prompt[1]", "the number 1", prompt(["a", 1])),
        ("prompt[1]", "null", prompt(["a", None])),
        ("prompt[1]", "the number 2.5", prompt([1, 2.5])),
        ("prompt[0]", "true", prompt([True])),
        ("input[0]", "an object", embed([{"text": "x"}])),
        ("input[1]", "the string 'a'", embed([[1], "a"])),
    ],
    Reason("a prompt of odd token ids", TYPE, "an array of token ids (whole numbers)"): [
        ("prompt[1]", "an array", prompt([[1], ["a"]])),
        ("prompt[0]", "an empty array", prompt([[]])),
        ("input[0]", "an array", embed([[1.5]])),
        ("input[0]", "an array", embed([[None]])),
        ("input[0]", "an array", embed([[True]])),
    ],
    Reason("input is missing", MISSING, "a string, an array of strings, or token ids"): [
        ("input", "input is missing", only(EMBED, model=MODEL)),
        ("input", "input is missing", embed(None)),
    ],
}  # fmt: skip
