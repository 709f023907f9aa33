"""What the stories share: the image, the package, and the disk that they begin with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm import image as images
from tests.vm import matrix
from tests.vm.image import Image
from tests.vm.node import Node, Say, build_package, steady_disk, timeline


@pytest.fixture(scope="session")
def image() -> Image:
    """The disk image, built on first use."""
    return images.build()


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .deb of this checkout."""
    given = os.environ.get("TRIALBOOT_DEB")
    return Path(given) if given else build_package(tmp_path_factory.mktemp("deb"))


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Say:
    """A timeline on standard error, shown when a test fails or with -s."""
    name = request.node.name.removeprefix("test_")
    tell = timeline()
    return lambda text: tell(f"{name[:28]:28} {text}")


@pytest.fixture
def node(image: Image, package: Path, tmp_path: Path, say: Say) -> Iterator[Node]:
    """A node on a fresh overlay of the prepared disk: 6.12 runs and is known-good. Still off."""
    with Node(image, tmp_path / "node", steady_disk(image, package, say)) as made:
        yield made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the cells of the matrix showed, those of earlier runs included."""
    if any("test_matrix" in r.nodeid for r in terminalreporter.getreports("passed")) or any(
        "test_matrix" in r.nodeid for r in terminalreporter.getreports("failed")
    ):
        terminalreporter.write(f"\n{matrix.write_table().read_text()}")
