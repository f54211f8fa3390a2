"""Which patterns an automaton of bounded size reads, and what the others cost."""

import pytest

from switchboard_policy.costs.patterns import (
    AUTOMATON_NS,
    BUILD_UNICODE_NS,
    STEP_NS,
    measure_pattern,
)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "password",
        r"(?i)\b(ssn|social security|passport|iban|credit card)\b",
        "|".join(f"word{number}" for number in range(60)),
        r"\d{3}-\d{2}-\d{4}",
        r"[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}",
        "(?P<name>a|b)[]x][^]y][[:alpha:]]",
        r"\Qa.b.c.d.e.f.g.h.i.j.k.l.m\E",
        "^.*foo.*bar.*$",
        r"\x{263a}\x41\101\.",
        "a{50}",
        "a{,50}",
    ],
)
def test_an_automaton_reads_what_can_be_half_matched_in_few_ways(pattern: str) -> None:
    assert measure_pattern(pattern).ns == AUTOMATON_NS


@pytest.mark.parametrize(
    ("pattern", "places"),
    [
        ("a.{20}b", 22),
        ("a.{2,20}b", 22),
        ("(?:a|b){20}", 40),
        ("(a?){20}", 20),
        ("((ab?){3}){5}", 30),
        ("a." + "a" * 800, 802),
        (r"\w{20}", 20),
        ("[ab]" * 20, 20),
        ("a.{900}x|b.{900}y", 1_804),
    ],
)
def test_other_patterns_cost_each_of_their_places(pattern: str, places: int) -> None:
    measured = measure_pattern(pattern)
    assert measured.ns >= STEP_NS * places
    assert measured.ns < 3 * STEP_NS * places


def test_classes_of_unicode_take_long_to_build() -> None:
    assert measure_pattern(r"\pL").build_ns > BUILD_UNICODE_NS
    assert measure_pattern(r"[\pL\p{Greek}]{3}").build_ns > 6 * BUILD_UNICODE_NS
    assert measure_pattern("[a-z]").build_ns < BUILD_UNICODE_NS


@pytest.mark.parametrize("pattern", [")", "(", "[", "*", "a{", "\\", "(?", "{3}", "a{99999}"])
def test_whatever_is_no_pattern_is_measured_too(pattern: str) -> None:
    """The engine refuses it; no bracket of it ends the measuring."""
    assert measure_pattern(pattern).ns > 0
