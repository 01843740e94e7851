"""The API's own description as a page: Swagger UI, from the package fastapi-offline. Nothing comes from another host."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from sam_service.api.studio import MEDIA_TYPES, Asset, answer, etag_of
from sam_service.errors import NotFound

router = APIRouter(include_in_schema=False)

POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
_PACKAGED = ("swagger-ui-bundle.js", "swagger-ui.css")
_PAGE = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <title>sam-service API</title>
    <link rel="icon" href="studio/icon.svg" type="image/svg+xml" />
    <link rel="stylesheet" href="docs/swagger-ui.css" />
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="docs/swagger-ui-bundle.js"></script>
    <script src="docs/start.js"></script>
  </body>
</html>
"""
_START = """SwaggerUIBundle({
  url: new URL("../openapi.json", document.currentScript.src).href,
  dom_id: "#swagger-ui",
  deepLinking: true,
  showExtensions: true,
  showCommonExtensions: true,
  validatorUrl: null,
});
"""


@router.api_route("/docs", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The page itself."""
    return answer(request, assets()[""], POLICY)


@router.api_route("/docs/", methods=["GET", "HEAD"])
async def page_with_slash() -> Response:
    """The page's files are found beside `/docs`."""
    return RedirectResponse("../docs")


@router.api_route("/docs/{name}", methods=["GET", "HEAD"])
async def asset(name: str, request: Request) -> Response:
    """A file that the page loads."""
    found = assets().get(name)
    if found is None:
        raise NotFound("the page of the API has no such file", field="name")
    return answer(request, found, POLICY)


@cache
def assets() -> dict[str, Asset]:
    """The page, named by nothing, and its files, read once."""
    packaged = files("fastapi_offline").joinpath("static")
    found = {name: packaged.joinpath(name).read_bytes() for name in _PACKAGED}
    found |= {"": _PAGE.encode(), "start.js": _START.encode()}
    return {name: Asset(data, MEDIA_TYPES[name.rpartition(".")[2] or "html"], etag_of(data)) for name, data in found.items()}
