"""Documents that are made once for all clients who want the same at about the same time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

KEPT = 64

Document = dict[str, Any]


class Shared:
    """The last KEPT documents, by what they were made of and in which form. Belongs to one event loop.

    A session may have hundreds of watchers; each of its frames and events becomes a document once for all of them.
    """

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[int, str], tuple[object, asyncio.Future[Document]]] = OrderedDict()

    async def get(self, subject: object, form: str, make: Callable[[], Awaitable[Document]]) -> Document:
        """What `make` gives for `subject`, the same document for all who ask: not to be changed. Raises as `make`."""
        key = (id(subject), form)
        if key not in self._made:
            future = asyncio.ensure_future(make())
            self._made[key] = subject, future  # the subject is held, so that no other object gets its id
            future.add_done_callback(lambda done: self._drop_failed(key, done))
            if len(self._made) > KEPT:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return await asyncio.shield(self._made[key][1])

    def _drop_failed(self, key: tuple[int, str], done: asyncio.Future[Document]) -> None:
        """What failed is tried again by the next who asks."""
        failed = done.cancelled() or done.exception() is not None
        if failed and key in self._made and self._made[key][1] is done:
            del self._made[key]
