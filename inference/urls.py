"""The routes that are served without Django's request handler."""

from inference.errors import MethodNotAllowed
from inference.http import Scope, UnknownPath
from inference.views import View, get_health, list_models, post_embeddings

ROUTES: dict[str, dict[str, View]] = {
    "/v1/embeddings": {"POST": post_embeddings},
    "/v1/models": {"GET": list_models},
    "/healthz": {"GET": get_health},
}


def is_ours(path: str) -> bool:
    """Whether Django is not asked; below /v1/ its errors would have another API's shape."""
    return path in ROUTES or path.startswith("/v1/")


def find_view(scope: Scope) -> View:
    """The view of a request's path and method. Raises UnknownPath, MethodNotAllowed."""
    views = ROUTES.get(scope["path"])
    if views is None:
        raise UnknownPath(scope["path"])
    if scope["method"] not in views:
        raise MethodNotAllowed(scope["method"], ", ".join(views))
    return views[scope["method"]]
