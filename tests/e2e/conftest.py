"""One cluster for the whole session, with every image in it; one life of a release."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from cluster.build import BuildUnavailable
from cluster.chart import Helm
from cluster.helm import build_helm
from cluster.node.enclosure import EnclosureUnavailable
from cluster.node.images import Images
from cluster.node.node import NodeUnavailable
from cluster.node.origins import ClusterUnavailable, running_cluster
from e2e.parts import build_all
from e2e.world import World

UNAVAILABLE = (BuildUnavailable, ClusterUnavailable, EnclosureUnavailable, NodeUnavailable)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The cluster that all tests of the session share, one after the other."""
    folder = tmp_path_factory.mktemp("world")
    images = Images.of_this_machine()
    with ExitStack() as ending:
        try:
            helm = build_helm()
            # Until they are loaded: another run, of other sources, would replace them.
            building = ending.enter_context(ExitStack())
            building.enter_context(images.alone())
            archives = build_all(images)
            cluster = ending.enter_context(running_cluster(folder, images))
        except UNAVAILABLE as reason:
            if os.environ.get("CI"):
                pytest.exit(f"end-to-end tests cannot run: {reason}", returncode=1)
            pytest.skip(str(reason))
        for image, archive in archives.items():
            cluster.load(archive, image)
        building.close()
        environ = {"KUBECONFIG": str(cluster.api.kubeconfig()), "HOME": str(folder)}
        found = World(cluster, Helm(helm, environ), archives)
        found.before = found.objects()
        yield found
