"""What a change of a guardrail's condition is called: by its tree, and not by how it begins."""

from typing import Final

import pytest

from switchboard_cli.review.conditions import relation

A: Final = "request.stream"
B: Final = "request.tools"
C: Final = "request.tokens > 3"


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        (A, A, "same"),
        (A, f"({A})", "same"),
        (A, f"  {A} // as before", "same"),
        (f"{A} || {B}", f"{B} || {A}", "same"),
        ("'a' in request.tags", '"a"  in request.tags', "same"),
        (A, "", "wider"),
        ("", A, "narrower"),
        (A, f"{A} || {B}", "wider"),
        (A, f"{B} || {A}", "wider"),
        (A, f"({A}) || {B}", "wider"),
        (A, f"{A} || {B} && {C}", "wider"),
        (f"{A} ? {B} : {C}", f"({A} ? {B} : {C}) || {A}", "wider"),
        (f"{A} && {B}", f"{A} && {B} || {C}", "wider"),
        (A, f"{A} && {B}", "narrower"),
        (A, f"({A}) && ({B} || {C})", "narrower"),
        (A, f"{A} || true ? false : true", "other"),
        (A, f"{A} || {B} ? {B} : {C}", "other"),
        (A, f"({A} || {B}) && {C}", "other"),
        (A, f"{A} && {B} || {C}", "other"),
        (f"{A} // ", f"{A} // || {B}\n&& {C}", "narrower"),
        (f"{A} // ", f"{A} // || {B}\n&& {C} || {B}", "other"),
        (f"{A} || {B}", f"({A} && {C}) || {B}", "other"),
        (A, f"!({A} || {B})", "other"),
        ('request.user == "a"', 'request.user == "a || b"', "other"),
        ("has(request.headers.x)", 'request.headers.x == "x"', "other"),
    ],
)
def test_only_what_is_sure_is_said(was: str, now: str, said: str) -> None:
    assert relation(was, now) == said
