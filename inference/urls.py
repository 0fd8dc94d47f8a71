"""The routes that are served without Django's request handler, and the dialect of each."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from inference.dialects import Dialect, cohere, openai, sagemaker
from inference.errors import MethodNotAllowed
from inference.http import UnknownPath
from inference.metrics_views import get_metrics
from inference.model_views import (
    get_addon_model,
    get_one_model,
    get_quantization,
    list_available_models,
    list_models,
)
from inference.openapi.document import get_document
from inference.sagemaker_views import get_ping, invoke_container, invoke_endpoint
from inference.token_views import tokenize
from inference.usage_views import get_usage
from inference.views import View, get_health, post_embeddings


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """`path` may have parts in braces, each of them anything but a slash."""

    path: str
    views: Mapping[str, View]  # by method
    dialect: Dialect = openai.DIALECT


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """A route, and what stands for the parts in braces."""

    route: Route
    parameters: Mapping[str, str]

    def view(self, method: str) -> View:
        """Raises MethodNotAllowed."""
        if method not in self.route.views:
            raise MethodNotAllowed(method, ", ".join(self.route.views))
        return self.route.views[method]


ROUTES = (
    Route(path="/v1/embeddings", views={"POST": post_embeddings}),
    Route(path="/v1/embed", views={"POST": post_embeddings}, dialect=cohere.V1_DIALECT),
    Route(path="/v2/embed", views={"POST": post_embeddings}, dialect=cohere.V2_DIALECT),
    Route(path="/v1/tokenize", views={"POST": tokenize}),
    Route(path="/v1/models", views={"GET": list_models}),
    Route(path="/v1/models/{id}", views={"GET": get_one_model}),
    Route(path="/v1/models/{id}/quantization", views={"GET": get_quantization}),
    Route(path="/available-models", views={"GET": list_available_models}),
    Route(path="/models/{addon_id}", views={"GET": get_addon_model}),
    Route(path="/ping", views={"GET": get_ping}, dialect=sagemaker.CONTAINER_DIALECT),
    Route(
        path="/invocations",
        views={"POST": invoke_container},
        dialect=sagemaker.CONTAINER_DIALECT,
    ),
    Route(
        path="/endpoints/{name}/invocations",
        views={"POST": invoke_endpoint},
        dialect=sagemaker.RUNTIME_DIALECT,
    ),
    Route(path="/v1/usage", views={"GET": get_usage}),
    Route(path="/metrics", views={"GET": get_metrics}),
    Route(path="/healthz", views={"GET": get_health}),
    Route(path="/openapi.json", views={"GET": get_document}),
)
# What is below these is ours even where nothing is there: Django's errors have another API's shape.
DIALECTS_BELOW = {"/v1/": openai.DIALECT, "/v2/": cohere.V2_DIALECT}

_exact = {route.path: Match(route=route, parameters={}) for route in ROUTES}
_patterns = [
    (re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", route.path)), route)
    for route in ROUTES
    if "{" in route.path
]


def is_ours(path: str) -> bool:
    """Whether Django is not asked."""
    return _find(path) is not None or path.startswith(tuple(DIALECTS_BELOW))


def get_route(path: str) -> Match:
    """The route of a path. Raises UnknownPath."""
    match = _find(path)
    if match is None:
        raise UnknownPath(path)
    return match


def dialect_of(path: str) -> Dialect:
    """The dialect in which a path of ours is answered, whether there is a route or not."""
    match = _find(path)
    if match is not None:
        return match.route.dialect
    below = [dialect for prefix, dialect in DIALECTS_BELOW.items() if path.startswith(prefix)]
    return below[0] if below else openai.DIALECT


def _find(path: str) -> Match | None:
    if path in _exact:
        return _exact[path]
    for pattern, route in _patterns:
        if found := pattern.fullmatch(path):
            return Match(route=route, parameters=found.groupdict())
    return None
