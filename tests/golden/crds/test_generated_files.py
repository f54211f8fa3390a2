"""What is generated is what is checked in: CRDs, their copy in the chart, the reference docs."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from conftest import Golden

REPO = Path(__file__).parents[3]


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", REPO / "tools" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OUTPUTS: dict[str, str] = load_generator().outputs()


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_file_is_what_the_models_say(name: str, golden: Golden) -> None:
    golden(REPO / name, OUTPUTS[name])


def test_the_same_models_give_the_same_bytes() -> None:
    assert load_generator().outputs() == OUTPUTS


def test_the_chart_installs_the_very_crds() -> None:
    for name, text in OUTPUTS.items():
        if name.startswith("crds/"):
            assert OUTPUTS[f"helm/switchboard/files/{name}"] == text
