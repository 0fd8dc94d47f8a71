"""The routes that are served without Django's request handler."""

from inference.views import View, get_health, list_models, post_embeddings

ROUTES: dict[str, dict[str, View]] = {
    "/v1/embeddings": {"POST": post_embeddings},
    "/v1/models": {"GET": list_models},
    "/healthz": {"GET": get_health},
}
