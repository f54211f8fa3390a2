"""What a fake model is scripted to say: a table from what it is asked to its answers. Pure.

With a table a test says which prompts a model answers rightly, and with what, and how sure it is:

    serve(Settings(lines=(
        Line(prompt="What is 6 * 7?", say="The answer is 42."),
        Line(prompt="What is 17 * 3?", say="The answer is 54.", confidence=0.4),
    )))

A judge is a model whose lines go by what stands in the question, and may repeat a part of it: this
one gives an answer that says "54" 2 of 10, and of several answers takes the one that says "51":

    Line(matches=r"<answer (\\d+) \\w+>\\n[^<]*\\b51\\b", say=r"\\1")
    Line(matches=r"<answer \\w+>\\n[^<]*\\b54\\b", say="2")

The flag ``--lines`` names a file of such lines, a JSON object each; PATCH /control takes a list of
them as ``lines``. What no line fits is answered as without a table.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from switchboard_cli.fake_model.asks import Ask


class LineError(ValueError):
    """A line that cannot be; the message says what it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    r"""One answer, and what it is given to: one of ``prompt`` and ``matches``.

    ``prompt`` is the text of the last user message (or the prompt), whatever space is around it;
    ``matches`` a regular expression that is searched in all texts of the request, one a line. Then
    ``say`` may refer to its groups (``\1``). ``confidence`` is the probability of each token, None
    for that of the settings. A prompt goes before expressions, of these the first that is found.
    """

    say: str
    prompt: str | None = None
    matches: str | None = None
    confidence: float | None = None

    def __post_init__(self) -> None:
        """Raise LineError for what cannot be."""
        if (self.prompt is None) == (self.matches is None):
            raise LineError("a line has one of prompt and matches")
        if self.confidence is not None and not 0 <= self.confidence <= 1:
            raise LineError(f"confidence must be in 0..1, not {self.confidence:g}")
        if self.matches is None:
            return
        try:
            # Reads what ``say`` refers to, too.
            re.compile(self.matches).sub(self.say, "")
        except re.error as error:
            raise LineError(f"matches: {self.matches!r}, {self.say!r}: {error}") from error

    @classmethod
    def from_json(cls, fields: Mapping[str, object]) -> "Line":
        """Read a JSON object; raise LineError."""
        read: dict[str, str] = {}
        for name in ("say", "prompt", "matches"):
            text = fields.get(name)
            if isinstance(text, str):
                read[name] = text
            elif text is not None:
                raise LineError(f"{name} must be text, not {text!r}")
        confidence = fields.get("confidence")
        if isinstance(confidence, bool) or not isinstance(confidence, int | float | None):
            raise LineError(f"confidence must be a number, not {confidence!r}")
        unknown = sorted(fields.keys() - {"say", "prompt", "matches", "confidence"})
        if unknown or "say" not in read:
            raise LineError("a line has say, prompt or matches, and may have confidence")
        return cls(confidence=confidence, **read)


@dataclass(frozen=True, slots=True)
class Cue:
    """What is to be said, and how sure of it the model is (None: as the settings say)."""

    text: str
    confidence: float | None


class Lines:
    """A table of lines."""

    def __init__(self, lines: tuple[Line, ...]) -> None:
        """Index them; of two with the same prompt the later counts."""
        self._by_prompt = {line.prompt.strip(): line for line in lines if line.prompt is not None}
        self._by_match = [
            (re.compile(line.matches), line) for line in lines if line.matches is not None
        ]

    def answer_to(self, ask: Ask) -> Cue | None:
        """Return what a request is answered, None where no line fits."""
        line = self._by_prompt.get(ask.question.strip())
        if line is not None:
            return Cue(line.say, line.confidence)
        texts = "\n".join(ask.texts) if self._by_match else ""
        for pattern, candidate in self._by_match:
            found = pattern.search(texts)
            if found is not None:
                return Cue(found.expand(candidate.say), candidate.confidence)
        return None
