"""Compiles the data plane's hot path into a wheel, where HATCH_BUILD_HOOK_ENABLE_CUSTOM is set.

Which modules, pyproject.toml says (``tool.hatch.build.targets.wheel.hooks.custom``). An extension
stands beside the source that it was made of, and is what Python then imports. A wheel that is built
without the variable, and every editable install, is the same source as plain Python.

``python hatch_build.py FOLDER`` compiles without a wheel, into ``built`` of the folder.
"""

import sys
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = "switchboard_dataplane"
"""Names the library that all modules share: calls from one to another stay calls in C."""


class CompiledModules(BuildHookInterface[Any]):
    """Adds the compiled modules to a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, before the wheel is put together."""
        if version == "editable":
            return
        self._work = TemporaryDirectory(prefix="switchboard-")
        work = Path(self._work.name)
        # mypy reads pyproject.toml, and the paths in it, where it is started.
        with chdir(self.root):
            compile_modules(module_paths(self.config["modules"]), work)
        built = work / "built"
        build_data["force_include"].update(
            {str(path): str(path.relative_to(built)) for path in built.rglob("*") if path.is_file()}
        )
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what is in the wheel now."""
        if version != "editable":
            self._work.cleanup()


def module_paths(patterns: Iterable[str]) -> Iterator[str]:
    """Yield the modules that the patterns name; raises ValueError where one names none."""
    for pattern in patterns:
        found = sorted(path for path in Path().glob(pattern) if path.name != "__init__.py")
        if not found:
            raise ValueError(f"there is no module {pattern}")
        yield from map(str, found)


def compile_modules(paths: Iterable[str], work: Path) -> None:
    """Compile modules into the folder ``built`` of ``work``, each in its package's place."""
    # setuptools comes first: mypyc looks for what is there, and else for the old distutils.
    from setuptools import Distribution  # noqa: PLC0415 - a plain wheel needs none of these
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415

    from mypyc.build import mypycify  # noqa: PLC0415  # isort: skip

    extensions = mypycify(
        [f"--cache-dir={work / 'mypy'}", *paths],
        group_name=LIBRARY,
        opt_level="3",
        target_dir=str(work / "c"),
    )
    command = build_ext(Distribution({"name": LIBRARY, "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(work / "built"), str(work / "objects")
    command.ensure_finalized()
    command.run()


if __name__ == "__main__":
    project = tomllib.loads(Path("pyproject.toml").read_text())
    said = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    compile_modules(module_paths(said["modules"]), Path(sys.argv[1]))
