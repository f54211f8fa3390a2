"""What a module that may run compiled must not hold, and a test must not do to it.

mypyc says nothing of it, or only after a minute: here it fails by name, in plain Python.
"""

import ast
import builtins
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from compiled_modules import REPO, compiled_modules

MODULES = compiled_modules()
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}
#: Those that switch defences off are never run against the compiled form.
TESTS = sorted(
    path for path in (REPO / "tests").rglob("test_*.py") if path.parent.name != "security"
)
SHAPES = {"Generic", "NamedTuple", "Protocol", "TypedDict"}
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]+")
NATIVE = {
    node.name
    for tree in TREES.values()
    for node in ast.walk(tree)
    if isinstance(node, ast.ClassDef)
}


def foreign_bases(tree: ast.AST) -> Iterator[str]:
    """Bases that stay interpreted: msgspec.Struct above all, which loses its keywords unseen."""
    for node in ast.walk(tree):
        for base in node.bases if isinstance(node, ast.ClassDef) else ():
            named = base.value if isinstance(base, ast.Subscript) else base
            name = ast.unparse(named)
            if name not in SHAPES | NATIVE and not hasattr(builtins, name):
                yield f"line {base.lineno}: {name} is not compiled, so what derives from it is slow"


def loose_constants(tree: ast.Module) -> Iterator[str]:
    """Constants that are not Final: they cost a look into a dict at every use."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else ()
        if isinstance(node, ast.AnnAssign) and not ast.unparse(node.annotation).startswith("Final"):
            targets = [node.target]
        for name in filter(CONSTANT.fullmatch, map(ast.unparse, targets)):
            yield f"line {node.lineno}: {name} is not Final"


def async_generators(tree: ast.AST) -> Iterator[str]:
    """Coroutines that yield: mypyc has none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef) and any(map(_is_yield, _own(node))):
            yield f"line {node.lineno}: {node.name} is an asynchronous generator"


def caught_waits(tree: ast.AST) -> Iterator[str]:
    """Waits in an except or finally: what was caught stays set for all others on the loop.

    A finally that waits even loses what it was to raise.
    """
    for node in ast.walk(tree):
        for part in [*node.handlers, *node.finalbody] if isinstance(node, ast.Try) else ():
            for one in (part, *_own(part)):
                if isinstance(one, ast.Await | ast.AsyncFor | ast.AsyncWith):
                    yield f"line {one.lineno}: {ast.unparse(one)}"


def lost_values(tree: ast.AST) -> Iterator[str]:
    """Attributes that are set to None and read in the same function: C takes them for None."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        own = list(_own(node))
        emptied = {
            ast.unparse(target): one.lineno
            for one in own
            if isinstance(one, ast.Assign) and ast.unparse(one.value) == "None"
            for target in one.targets
            if isinstance(target, ast.Attribute)
        }
        for one in own:
            if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Load):
                said = ast.unparse(one)
                if one.lineno > emptied.get(said, one.lineno):
                    yield f"line {one.lineno}: {said} was None in line {emptied[said]}"


def _is_yield(node: ast.AST) -> bool:
    return isinstance(node, ast.Yield)


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """What a function holds, without the functions in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _own(child)


def replaced_names(tree: ast.AST, modules: Mapping[str, Path]) -> Iterator[str]:
    """Names of a compiled module that a test replaces: calls and constants in C do not look."""
    known = dict[str, str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {name.asname or name.name: name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            known |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("setattr", "patch")):
            target = node.args[0] if node.args else None
            said = str(target.value) if isinstance(target, ast.Constant) else ""
            said = said or known.get(ast.unparse(target) if target else "", "")
            if any(said == name or said.startswith(f"{name}.") for name in modules):
                yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("name", MODULES)
def test_a_compiled_module_derives_from_nothing_that_stays_interpreted(name: str) -> None:
    assert list(foreign_bases(TREES[name])) == []


@pytest.mark.parametrize("name", MODULES)
def test_a_constant_of_a_compiled_module_is_final(name: str) -> None:
    assert list(loose_constants(TREES[name])) == []


@pytest.mark.parametrize("name", MODULES)
def test_a_compiled_module_holds_no_asynchronous_generator(name: str) -> None:
    assert list(async_generators(TREES[name])) == []


@pytest.mark.parametrize("name", MODULES)
def test_a_compiled_module_does_not_wait_while_it_holds_an_error(name: str) -> None:
    assert list(caught_waits(TREES[name])) == []


@pytest.mark.parametrize("name", MODULES)
def test_what_a_compiled_function_empties_it_does_not_read(name: str) -> None:
    """mypy takes no call to change an attribute, and mypyc believes it."""
    assert list(lost_values(TREES[name])) == []


def test_no_test_replaces_what_compiled_code_does_not_look_up() -> None:
    trees = {str(path.relative_to(REPO)): ast.parse(path.read_text()) for path in TESTS}
    found = {name: list(replaced_names(tree, MODULES)) for name, tree in trees.items()}
    assert {name: said for name, said in found.items() if said} == {}


def test_the_rules_see_what_they_forbid() -> None:
    bases = ast.parse(
        "class A(msgspec.Struct, frozen=True): x: int\nclass B(asyncio.Protocol): ..."
    )
    assert len(list(foreign_bases(bases))) == 2
    constants = ast.parse(
        "A1: Final = 1\n_B2 = 2\nC3: int = 3\nNames = tuple[str]\nT = TypeVar('T')"
    )
    assert len(list(loose_constants(constants))) == 2
    generators = ast.parse("async def a():\n    yield 1\nasync def b():\n    def c(): yield 2")
    assert [said.split(": ")[1] for said in async_generators(generators)] == [
        "a is an asynchronous generator"
    ]
    caught = ast.parse(
        "async def a():\n try: await b()\n except C: await d()\n finally:\n  if e: await f()"
    )
    assert list(caught_waits(caught)) == ["line 3: await d()", "line 5: await f()"]
    emptied = ast.parse("def a(b):\n    b.c = None\n    b.fill()\n    return b.c, b.d")
    assert list(lost_values(emptied)) == ["line 4: b.c was None in line 2"]
    module = next(iter(MODULES))
    package, _, name = module.rpartition(".")
    for line in (
        f"import {module}\nmonkeypatch.setattr({module}, 'LIMIT', 1)",
        f"from {package} import {name} as it\nmonkeypatch.setattr(it, 'LIMIT', 1)",
        f"from {module} import Thing\nmonkeypatch.setattr(Thing, 'limit', 1)",
        f"monkeypatch.setattr('{module}.LIMIT', 1)",
    ):
        assert list(replaced_names(ast.parse(line), MODULES)), line
