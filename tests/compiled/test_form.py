"""What runs here is the compiled form: without this, a wrong path would test plain Python twice."""

import subprocess
import sys
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from compiled_modules import REPO, compiled_modules

COMPILED = REPO / ".compiled"


@pytest.mark.parametrize("name", compiled_modules())
def test_a_listed_module_is_an_extension_of_this_checkout(name: str) -> None:
    file = import_module(name).__file__
    assert file
    assert file.endswith(tuple(EXTENSION_SUFFIXES)), "run it by `make test-compiled`"
    assert Path(file).is_relative_to(COMPILED)


def test_a_process_that_a_test_starts_runs_the_extensions_too(tmp_path: Path) -> None:
    ask = "import sys; from switchboard_dataplane.app import form; sys.exit(form() != 'compiled')"
    subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, check=True)


def test_the_extensions_are_made_of_the_sources_as_they_are() -> None:
    subprocess.run([REPO / "tools" / "setup.sh", "is-compiled"], check=True)
