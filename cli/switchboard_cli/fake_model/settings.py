"""How the fake model behaves: every knob, its flag, its environment variable, its bounds."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum, auto
from pathlib import Path
from typing import Any, cast

import orjson

from switchboard_cli.fake_model.faults import Fault, FaultError
from switchboard_cli.fake_model.lines import Line, LineError

ENVIRONMENT_PREFIX = "SWITCHBOARD_FAKE_MODEL_"


class SettingsError(ValueError):
    """A setting that cannot be: `field` is its name, the message says what it takes."""

    def __init__(self, field: str, message: str) -> None:
        """Name the field and say what is wrong with it."""
        super().__init__(f"{field}: {message}")
        self.field = field


class Form(Enum):
    """What a knob's value is made of."""

    TEXT = auto()
    TEXTS = auto()
    WHOLE = auto()
    NUMBER = auto()
    SWITCH = auto()
    FAULTS = auto()
    LINES = auto()


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting: its field, its form, its bounds and what it does."""

    field: str
    form: Form
    meaning: str
    high: float = math.inf
    optional: bool = False
    singular: str = ""  # the flag's name where it differs, for a flag that may be repeated

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return "--" + (self.singular or self.field).replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return ENVIRONMENT_PREFIX + self.field.upper()


KNOBS = (
    Knob("name", Form.TEXT, "who answers: the answers say 'This is NAME answering:'"),
    Knob("models", Form.TEXTS, "a model name that is served; may be repeated", singular="model"),
    Knob("any_model", Form.SWITCH, "answer for every model name, as the first served one"),
    Knob("ttft_ms", Form.NUMBER, "time to first token, in ms"),
    Knob("tokens_per_second", Form.NUMBER, "speed after the first token; 0 is unlimited"),
    Knob("jitter", Form.NUMBER, "vary every wait by up to this fraction, both ways", high=1),
    Knob("load_ttft_ms", Form.NUMBER, "added to the first token per other running request, in ms"),
    Knob("max_running", Form.WHOLE, "requests answered at once, the rest wait; 0 is unlimited"),
    Knob("answer_tokens", Form.WHOLE, "length of an answer; max_tokens cuts it", high=1_000_000),
    Knob("answer_text", Form.TEXT, "answer exactly this text", optional=True),
    Knob("confidence", Form.NUMBER, "the probability of each token, told as logprobs", high=1),
    Knob("logprobs", Form.SWITCH, "tell logprobs to who asks for them, or ignore that"),
    Knob(
        "lines",
        Form.LINES,
        "a file of scripted answers, a JSON object a line: say, and prompt (the last user message) "
        "or matches (an expression found in the prompt)",
    ),
    Knob("api_key", Form.TEXT, "the bearer key that callers must send", optional=True),
    Knob("context_window", Form.WHOLE, "prompt tokens taken, more is an error; 0 is unlimited"),
    Knob("kv_cache_tokens", Form.WHOLE, "tokens at which the KV-cache metrics say 1"),
    Knob("embedding_dimensions", Form.WHOLE, "length of an embedding", high=16_384),
    Knob("healthy", Form.SWITCH, "whether GET /health answers 200, or 503"),
    Knob("recorded_requests", Form.WHOLE, "requests kept for /control/requests", high=10_000),
    Knob("seed", Form.WHOLE, "the same seed, requests and order give the same chances"),
    Knob(
        "faults",
        Form.FAULTS,
        "KIND[:field=value,...], for example status:status=429,retry_after_s=2,count=3 or "
        "cut:at=after-tokens,after_tokens=5; may be repeated",
        singular="fault",
    ),
)
_KNOBS = {knob.field: knob for knob in KNOBS}
_MAY_BE_EMPTY = frozenset({Form.FAULTS, Form.LINES})
_AT_LEAST_ONE = frozenset({"kv_cache_tokens", "embedding_dimensions", "answer_tokens"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the fake model behaves. KNOBS says what each field does; a bad one raises."""

    name: str = "fake"
    models: tuple[str, ...] = ("fake-model",)
    any_model: bool = False
    ttft_ms: float = 0
    tokens_per_second: float = 0
    jitter: float = 0
    load_ttft_ms: float = 0
    max_running: int = 0
    answer_tokens: int = 16
    answer_text: str | None = None
    confidence: float = 0.9
    logprobs: bool = True
    lines: tuple[Line, ...] = ()
    api_key: str | None = None
    context_window: int = 0
    kv_cache_tokens: int = 65_536
    embedding_dimensions: int = 64
    healthy: bool = True
    recorded_requests: int = 100
    seed: int = 0
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        """Raise SettingsError for the first field that is out of bounds."""
        for knob in KNOBS:
            value = getattr(self, knob.field)
            if knob.form in (Form.WHOLE, Form.NUMBER):
                _check_bounds(knob, value)
            elif value in ("", ()) and knob.form not in _MAY_BE_EMPTY:
                raise SettingsError(knob.field, f"({knob.flag}) must not be empty")
        if not all(self.models):
            raise SettingsError("models", "(--model) must not be empty")

    def to_json(self) -> dict[str, object]:
        """Return the settings as JSON types, without key and faults; of the lines how many."""
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        del shown["faults"]
        shown["lines"] = len(self.lines)
        shown["api_key"] = None if self.api_key is None else "***"
        return shown


def _check_bounds(knob: Knob, value: float) -> None:
    low = 1 if knob.field in _AT_LEAST_ONE else 0
    if not low <= value <= knob.high or value == math.inf:
        bounds = f"at least {low}" if knob.high == math.inf else f"in {low}..{knob.high:g}"
        raise SettingsError(knob.field, f"({knob.flag}) must be {bounds}, not {value:g}")


def read_settings(flags: Mapping[str, object], environment: Mapping[str, str]) -> Settings:
    """Return the settings that flags and environment say; a flag wins.

    `flags` maps a field to what the command line gave: None, text, a list of texts or a bool.
    Raises SettingsError.
    """
    said: dict[str, object] = {}
    for knob in KNOBS:
        given = flags.get(knob.field)
        if given is None:
            given = _from_environment(knob, environment)
        if given is not None:
            said[knob.field] = _parse(knob, given)
    return _replace(Settings(), said)


def patch_settings(settings: Settings, patch: Mapping[str, object]) -> Settings:
    """Return `settings` with the fields of a JSON object changed.

    Raises SettingsError, for an unknown field with the known ones.
    """
    said: dict[str, object] = {}
    for name, given in patch.items():
        if name not in _KNOBS:
            raise SettingsError(name, f"no such field; the fields are {', '.join(_KNOBS)}")
        said[name] = _check_form(_KNOBS[name], given)
    return _replace(settings, said)


def _replace(settings: Settings, said: Mapping[str, object]) -> Settings:
    """Change fields whose forms have been checked; their bounds are checked here."""
    return replace(settings, **cast("dict[str, Any]", said))


def _from_environment(knob: Knob, environment: Mapping[str, str]) -> object:
    text = environment.get(knob.variable)
    if text is None:
        return None
    if knob.form is Form.TEXTS:
        return [part.strip() for part in text.split(",")]
    if knob.form is Form.FAULTS:
        return [part.strip() for part in text.split(";") if part.strip()]
    return text


def _parse(knob: Knob, given: object) -> object:
    """Turn text into the knob's value."""
    if knob.form is Form.FAULTS:
        return _read_faults(knob, cast("list[str]", given))
    if not isinstance(given, str):
        return _check_form(knob, given)
    if knob.form is Form.TEXT:
        return given
    if knob.form is Form.LINES:
        return _read_lines(knob, _load_lines(knob, given))
    text = given.strip().lower()
    if knob.form is Form.SWITCH and text in ("true", "1", "false", "0"):
        return text in ("true", "1")
    try:
        return int(text) if knob.form is Form.WHOLE else float(text)
    except ValueError:
        raise _wrong_form(knob, given) from None


def _check_form(knob: Knob, given: object) -> object:
    """Return a JSON value as the knob's value; raise SettingsError if it is another form."""
    if knob.optional and given is None:
        return None
    if isinstance(given, list):
        items = cast("list[object]", given)
        if knob.form is Form.FAULTS:
            return _read_faults(knob, items)
        if knob.form is Form.LINES:
            return _read_lines(knob, items)
        if knob.form is Form.TEXTS and all(isinstance(item, str) for item in items):
            return tuple(items)
        raise _wrong_form(knob, items)
    # To Python True is a number; to a reader of JSON it is not.
    is_switch = isinstance(given, bool)
    if is_switch == (knob.form is Form.SWITCH) and isinstance(given, _PYTHON_FORMS[knob.form]):
        return given
    raise _wrong_form(knob, given)


_PYTHON_FORMS: dict[Form, tuple[type, ...]] = {
    Form.TEXTS: (),
    Form.FAULTS: (),
    Form.LINES: (),
    Form.TEXT: (str,),
    Form.WHOLE: (int,),
    Form.NUMBER: (int, float),
    Form.SWITCH: (bool,),
}
_FORM_NAMES = {
    Form.TEXT: "text",
    Form.TEXTS: "a list of texts",
    Form.WHOLE: "a whole number",
    Form.NUMBER: "a number",
    Form.SWITCH: "true or false",
    Form.FAULTS: "a list of faults",
    Form.LINES: "a list of lines",
}


def _wrong_form(knob: Knob, given: object) -> SettingsError:
    wanted = _FORM_NAMES[knob.form]
    return SettingsError(knob.field, f"({knob.flag}) must be {wanted}, not {given!r}")


def _read_faults(knob: Knob, given: Iterable[object]) -> tuple[Fault, ...]:
    faults: list[Fault] = []
    for index, value in enumerate(given):
        try:
            if isinstance(value, str):
                faults.append(Fault.from_text(value))
            elif isinstance(value, dict):
                faults.append(Fault.from_json(cast("dict[str, object]", value)))
            else:
                raise _wrong_form(knob, value)
        except FaultError as error:
            raise SettingsError(f"faults[{index}]", f"({knob.flag}) {error}") from error
    return tuple(faults)


def _load_lines(knob: Knob, path: str) -> list[object]:
    try:
        return [orjson.loads(line) for line in Path(path).read_bytes().splitlines() if line.strip()]
    except (OSError, orjson.JSONDecodeError) as error:
        message = f"({knob.flag}) {path!r} is no file of JSON lines: {error}"
        raise SettingsError(knob.field, message) from error


def _read_lines(knob: Knob, given: Iterable[object]) -> tuple[Line, ...]:
    lines: list[Line] = []
    for index, value in enumerate(given):
        if not isinstance(value, dict):
            raise _wrong_form(knob, value)
        try:
            lines.append(Line.from_json(cast("dict[str, object]", value)))
        except LineError as error:
            raise SettingsError(f"lines[{index}]", f"({knob.flag}) {error}") from error
    return tuple(lines)
