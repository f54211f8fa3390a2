"""Which of several answers most of the others come to as well."""

from collections.abc import Sequence

from switchboard_dataplane.judging.agreement import same


def most_common(texts: Sequence[str]) -> tuple[int, int]:
    """Return which answer most agree with, and how many do, itself counted.

    Of several such answers it is the earliest. An empty answer has no vote. Raises ValueError for
    no answers at all.
    """
    if not texts:
        raise ValueError("no answers to choose among")
    counts = [
        sum(one is other or same(text, texts[other]) for other in range(len(texts)))
        if text.strip()
        else 0
        for one, text in enumerate(texts)
    ]
    best = max(counts)
    return counts.index(best), best
