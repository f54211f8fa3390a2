"""The modules of the data plane that may run compiled, as pyproject.toml lists them."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

REPO: Final = Path(__file__).parents[1]
_ROOT: Final = REPO / "dataplane"


def compiled_modules() -> Mapping[str, Path]:
    """Return their sources by their names."""
    project = tomllib.loads((REPO / "pyproject.toml").read_text())
    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    found = (path for pattern in hook["modules"] for path in REPO.glob(pattern))
    return {
        ".".join(path.relative_to(_ROOT).with_suffix("").parts): path
        for path in sorted(found)
        if path.name != "__init__.py"
    }
