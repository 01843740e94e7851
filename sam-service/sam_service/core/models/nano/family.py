"""The family of the embedded model."""

from __future__ import annotations

from pathlib import Path

from sam_service.core.models.checkpoints import locate, read_folder, read_shapes, require_shapes, shapes_of, unavailable
from sam_service.core.models.family import Checkpoint, NetworkInfo
from sam_service.core.models.hub import CONFIG_FILE, WEIGHTS_FILE, sha256_of
from sam_service.core.models.nano.architecture import ARCHITECTURE, Network
from sam_service.core.models.nano.network import NanoNetwork
from sam_service.core.models.nano.sizes import SIZES
from sam_service.core.models.sizes import ModelSize
from sam_service.errors import InvalidInput


class NanoFamily:
    """See `Family`."""

    sizes = SIZES

    def load(self, size: str, checkpoint: Checkpoint, image_size: int | None) -> NanoNetwork:
        """See `Family.load`."""
        spec = SIZES[size]
        place, source = locate(spec, checkpoint)
        if place.is_file():
            raise unavailable(spec, f"{place.name} is a file; {size} is read from a folder with {CONFIG_FILE} and "
                                    f"{WEIGHTS_FILE}")
        network, usual = _load_folder(spec, place)
        side = image_size or usual
        parameters = sum(parameter.numel() for parameter in network.parameters())
        return NanoNetwork(network, NetworkInfo(size, side, source, parameters), side)

    def check_folder(self, size: str, folder: Path) -> None:
        """See `Family.check_folder`."""
        shapes, _ = read_shapes(SIZES[size], folder)
        require_shapes(SIZES[size], folder, shapes, shapes_of(Network().state_dict()))

    def check_image_size(self, image_size: int) -> None:
        """See `Family.check_image_size`."""
        if not 128 <= image_size <= 2048 or image_size % 32:
            raise InvalidInput(f"image_size must be a multiple of 32 between 128 and 2048, not {image_size}: the encoder's "
                               "coarsest cells are 32 pixels wide", field="image_size")


FAMILY = NanoFamily()


def _load_folder(size: ModelSize, folder: Path) -> tuple[Network, int]:
    """The network of a folder, and the side of its usual input."""
    state, config = read_folder(size, folder)
    if "sha256" not in config:
        raise unavailable(size, f"{CONFIG_FILE} is not nano's: it has no sha256")
    if config.get("architecture") != ARCHITECTURE:
        raise unavailable(size, f"{folder.name} holds the architecture {config.get('architecture')!r}, and this version "
                                f"runs {ARCHITECTURE!r}")
    digest = sha256_of(folder / WEIGHTS_FILE)
    if digest != config["sha256"]:
        raise unavailable(size, f"{WEIGHTS_FILE} is damaged: sha256 is {digest}, not {config['sha256']}")
    network = Network()
    require_shapes(size, folder, shapes_of(state), shapes_of(network.state_dict()))
    network.load_state_dict({name: value.float() for name, value in state.items()})
    network.train(False).requires_grad_(False)
    return network, int(config["image_size"])
