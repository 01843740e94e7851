"""The mode in use, and its change while the service runs."""

from __future__ import annotations

import logging
from dataclasses import replace

from sam_service.core.device import choose_device
from sam_service.core.engine import Engine
from sam_service.core.threads import usable_cpus
from sam_service.errors import ModelUnavailable
from sam_service.modes import Knobs, ModeName
from sam_service.sessions.service import SessionService
from sam_service.settings import Settings

logger = logging.getLogger(__name__)


class Modes:
    """Turns the knobs of a mode. Belongs to the event loop."""

    def __init__(self, settings: Settings, engine: Engine, sessions: SessionService) -> None:
        self._settings, self._engine, self._sessions = settings, engine, sessions
        self.current: ModeName = settings.sam2_mode

    @property
    def fixed(self) -> list[str]:
        """The knobs that no mode changes, since their options are set."""
        return self._settings.fixed_knobs

    def knobs(self, mode: ModeName) -> Knobs:
        """What a mode comes to with the options that are set."""
        return self._settings.knobs(mode)

    @property
    def at_next_start(self) -> list[str]:
        """The knobs of the current mode that the running network does not have: it was loaded for another one."""
        running, knobs = self._engine.policy, self.knobs(self.current)
        if running is None:
            return []
        try:
            wanted = choose_device(knobs.device, precision=knobs.precision)
        except ModelUnavailable:  # it is not there, and the next start says so
            return ["device"]
        return (["device"] if wanted.device.type != running.device.type
                else ["precision"] if wanted.autocast != running.autocast else [])

    def change(self, mode: ModeName) -> None:
        """Use another mode: threads and features kept from the next step on, frame size and input size in new sessions."""
        knobs = self.knobs(mode)
        self._engine.use(knobs.thread_count(usable_cpus()), knobs.feature_cache_mb << 20, knobs.input_side)
        self._sessions.limits = replace(self._sessions.limits, max_dimension=knobs.max_frame_dimension)
        self.current = mode
        waits = self.at_next_start
        logger.info("mode %s: %d threads, frames up to %d pixels%s", mode, self._engine.threads, knobs.max_frame_dimension,
                    f"; {' and '.join(waits)} with SAM2_MODE={mode} at the next start" if waits else "")
