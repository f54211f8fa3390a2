"""Client Secrets: whatever they hold, they are read or refused, and nothing of it is told."""

from hypothesis import given
from hypothesis import strategies as st

from switchboard_policy.compiler.clients import FIELDS, read_client

MARK = "Zq7xZq7x"
texts = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["", "=v", "=v,b=c", ",a*b", "-01-01T00:00:00Z", ".b.c", "*" * 520]),
)
fields = st.sampled_from([*FIELDS, "key"])


@given(st.dictionaries(fields, texts))
def test_a_secret_is_read_or_refused_and_what_it_holds_is_not_told(said: dict[str, str]) -> None:
    data = {name: f"{MARK}{text}".encode(errors="surrogatepass") for name, text in said.items()}
    spec, problems = read_client(data)
    assert (spec is None) is bool(problems)
    assert MARK not in str(problems)


@given(st.dictionaries(fields, st.binary(max_size=600)))
def test_bytes_of_any_kind_are_read_or_refused(data: dict[str, bytes]) -> None:
    spec, problems = read_client(data)
    assert (spec is None) is bool(problems)
