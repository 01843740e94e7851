"""The seeded network, through the project's own loader, and the recorded answers of the peer."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded import EDGETAM_PLAN, PLAN, Recording
from sam_service.core.device import choose_device
from sam_service.core.models.sam.network import SamNetwork
from sam_service.core.speedups import Speedups
from seeded_weights import write_seeded

from tests.networks import load_network


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "peer: records the reference again; needs SAM2_PEER_PYTHON")
    config.addinivalue_line("markers", "slow: takes more than a few seconds")


@pytest.fixture(scope="session")
def recording() -> Recording:
    return Recording()


@pytest.fixture(scope="session")
def seeded_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeded weights of size tiny in Meta's layout: the path of the `.pt`."""
    path = tmp_path_factory.mktemp("seeded") / "tiny.pt"
    write_seeded(path, PLAN["size"])
    return path


@pytest.fixture(scope="session")
def seeded_edgetam(tmp_path_factory: pytest.TempPathFactory) -> SamNetwork:
    """EdgeTAM with seeded weights, as `seeded_network`. Shared: do not change it."""
    path = tmp_path_factory.mktemp("seeded") / "edgetam.pt"
    write_seeded(path, "edgetam")
    network = load_network("edgetam", checkpoint=path, image_size=EDGETAM_PLAN["image_size"])
    network.prepare(choose_device("cpu"), Speedups())
    return network


@pytest.fixture(scope="session")
def seeded_network(seeded_checkpoint: Path) -> SamNetwork:
    """The seeded network at the image size of the recording, prepared for the CPU. Shared: do not change it."""
    network = load_network(PLAN["size"], checkpoint=seeded_checkpoint, image_size=PLAN["image_size"])
    network.prepare(choose_device("cpu"), Speedups())
    return network
