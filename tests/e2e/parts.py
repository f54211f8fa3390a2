"""The images of the end-to-end tests. ``python -m e2e.parts`` (from tests/) builds them all."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from cluster.build import BuildUnavailable, say_on_stderr
from cluster.node.images import Images, Recipe, layers_of

REPO: Final = Path(__file__).parents[2]
DOCKERFILES: Final = Path(__file__).parent / "images"
REGISTRY: Final = os.environ.get("SWITCHBOARD_E2E_REGISTRY", "localhost")
"""What images' names begin with: a given cluster may have to pull them from there."""
OPERATOR: Final = f"{REGISTRY}/switchboard-operator"
DATAPLANE: Final = f"{REGISTRY}/switchboard-dataplane"
REDIS: Final = f"{REGISTRY}/switchboard-e2e-redis"
TOOLS: Final = f"{REGISTRY}/switchboard-e2e-tools:v1"
FIRST, SECOND = "v1", "v2"
BUDGET_MB: Final = 192
"""What either plane's image may add to its base: a fifth more than it does."""
_SOURCES: Final = (
    *("requirements", "policy", "operator", "dataplane"),
    *("pyproject.toml", "hatch_build.py", "LICENSE"),
)


def recipes() -> Iterator[Recipe]:
    """Every image, each after those that it stands on."""
    sources = [REPO / name for name in _SOURCES]
    for target, image in (("operator", OPERATOR), ("dataplane", DATAPLANE)):
        dockerfile = REPO / "Dockerfile"
        first = f"{image}:{FIRST}"
        yield Recipe(first, REPO, dockerfile, sources, target=target)
        yield _on(f"{image}:{SECOND}", "next", [dockerfile, *sources], RELEASE=first)
    cli = REPO / "cli"
    made_of = [REPO / "Dockerfile", *sources, cli]
    yield _on(TOOLS, "tools", made_of, context=cli, DATAPLANE=f"{DATAPLANE}:{FIRST}")
    yield _on(f"{REDIS}:{FIRST}", "redis", [])


def _on(
    image: str, name: str, inputs: Iterable[Path], *, context: Path = DOCKERFILES, **arguments: str
) -> Recipe:
    dockerfile = DOCKERFILES / f"{name}.Dockerfile"
    return Recipe(image, context, dockerfile, list(inputs), arguments=arguments)


def build_all(images: Images) -> dict[str, Path]:
    """The archive of each image by its name, built if need be. Raises BuildUnavailable."""
    with images.alone():
        return {recipe.image: images.build(recipe) for recipe in recipes()}


def sizes_mb(archives: Mapping[str, Path]) -> Mapping[str, float]:
    """What each plane's image adds to the base that both stand on, by the image's name."""
    planes = (f"{name}:{FIRST}" for name in (OPERATOR, DATAPLANE))
    layers = {image: layers_of(archives[image]) for image in planes}
    base = set.intersection(*(set(found) for found in layers.values()))
    return {
        image: sum(size for layer, size in found.items() if layer not in base) / 1e6
        for image, found in layers.items()
    }


if __name__ == "__main__":
    try:
        for name, size_mb in sizes_mb(build_all(Images.of_this_machine())).items():
            say_on_stderr(f"{name}: {size_mb:.0f} MB above its base")
    except BuildUnavailable as reason:
        sys.exit(str(reason))
