"""What may stand behind the `?` of a call: its own fields, each once. An option that is passed over makes a wrong answer."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from sam_service.errors import InvalidInput


async def known_query(request: Request) -> None:
    """Raise InvalidInput for a field in the query that the call does not have, and for one that is given twice.

    Names that begin with an underscore are passed over: scripts in browsers add them to go around caches.
    """
    given = [name for name, _ in request.query_params.multi_items() if not name.startswith("_")]
    route = request.scope.get("route")
    if not given or not isinstance(route, APIRoute):
        return
    known = sorted(set(_names(route.dependant)))
    for place, name in enumerate(given):
        if name not in known:
            fields = f"its fields are {', '.join(known)}" if known else "it has none; options belong into the body"
            raise InvalidInput(f"unknown field `{name}` in the query of this call; {fields}", field=name)
        if name in given[:place]:
            raise InvalidInput(f"the field `{name}` is given twice in the query", field=name)


def _names(dependant: Dependant) -> Iterator[str]:
    """The fields of a call's query, those of a model one by one."""
    for field in dependant.query_params:
        kind = field.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from kind.model_fields
        else:
            yield field.alias
    for other in dependant.dependencies:
        yield from _names(other)
