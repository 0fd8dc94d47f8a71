"""What models there are: `/v1/models` for OpenAI's clients, and for Heroku's CLI
`/available-models` and `/models/ADDON_ID`."""

from hashlib import sha256

import msgspec

from addon.provider.manifest import own_manifest
from billing.prices import ModelHasNoPrice, PlanHasNoPrice
from inference.authentication import Caller, authenticate
from inference.calibration import find_calibration
from inference.catalogue import Model, UnknownModel, get_model, installed_models, load_catalogue
from inference.embeddings import ModelNotInPlan
from inference.http import Response, find_header, json_response
from inference.model_states import ModelState, find_state
from inference.pools import shared_pools
from inference.views import Request


class ModelNotCalibrated(Exception):
    """There are no ranges for the model's int8 and uint8."""

    def __init__(self, model: Model) -> None:
        super().__init__(model.id)
        self.model = model


class UnknownAddon(Exception):
    """The key belongs to no add-on of that id."""


async def list_models(request: Request) -> Response:
    """`GET /v1/models`: those of the catalogue that the key's plan serves, installed or not."""
    caller = await authenticate(find_header(request.scope, b"authorization"))
    models = [model for model in load_catalogue().values() if _is_served(model, caller)]
    states = [await find_state(request.redis, model, caller.pool) for model in models]
    described = [_describe(state, caller) for state in states]
    return json_response({"object": "list", "data": described})


async def get_one_model(request: Request) -> Response:
    """`GET /v1/models/ID`. Raises UnknownModel, ModelNotInPlan."""
    caller = await authenticate(find_header(request.scope, b"authorization"))
    model = _find_model(request.parameters["id"], caller)
    return json_response(_describe(await find_state(request.redis, model, caller.pool), caller))


async def get_quantization(request: Request) -> Response:
    """`GET /v1/models/ID/quantization`: the ranges of int8 and uint8.

    Raises UnknownModel, ModelNotInPlan, ModelNotInstalled, ModelNotCalibrated.
    """
    caller = await authenticate(find_header(request.scope, b"authorization"))
    model = get_model(_find_model(request.parameters["id"], caller).id)
    calibration = find_calibration(model)
    if calibration is None:
        raise ModelNotCalibrated(model)
    body = msgspec.json.encode(calibration)
    etag = f'"{sha256(body).hexdigest()[:32]}"'
    headers = {"etag": etag, "cache-control": "private, no-cache"}
    known = (find_header(request.scope, b"if-none-match") or "").split(",")
    if {tag.strip().removeprefix("W/") for tag in known} & {etag, "*"}:
        return Response(status=304, headers=headers)
    return Response(body=body, headers=headers)


async def list_available_models(request: Request) -> Response:
    """`GET /available-models`, without a key: the models that are installed, for everybody."""
    states = [
        await find_state(request.redis, model, *shared_pools())
        for model in installed_models().values()
    ]
    regions = own_manifest().regions
    return json_response(
        [
            {
                "model_id": state.model.id,
                "type": ["text-to-embedding"],
                "link": _link(state.model),
                "regions": regions,
                **_service(state),
            }
            for state in states
        ]
    )


async def get_addon_model(request: Request) -> Response:
    """`GET /models/ADDON_ID`: the model of the add-on that the key belongs to.

    Raises UnknownAddon, UnknownModel.
    """
    caller = await authenticate(find_header(request.scope, b"authorization"))
    if request.parameters["addon_id"].lower() != str(caller.identity.resource_id):
        raise UnknownAddon
    model = _find_model(caller.model_id, caller)
    state = await find_state(request.redis, model, caller.pool)
    answer = {
        "model_id": model.id,
        **_service(state),
        "ready": "Yes" if state.is_ready else "No",
        "plan": caller.plan_name,
    }
    if state.workers:
        answer["avg_performance"] = f"{state.tokens_per_s:.0f} tokens/sec"
    return json_response(answer)


def _is_served(model: Model, caller: Caller) -> bool:
    return caller.serves_all_models or model.id == caller.model_id


def _find_model(model_id: str, caller: Caller) -> Model:
    """Raises UnknownModel, ModelNotInPlan."""
    model = load_catalogue().get(model_id)
    if model is None:
        raise UnknownModel(model_id, tuple(installed_models()))
    if not _is_served(model, caller):
        raise ModelNotInPlan(model_id, caller)
    return model


def _describe(state: ModelState, caller: Caller) -> dict[str, object]:
    """A model in OpenAI's shape, and what it costs the caller. Nothing says when it was created."""
    model = state.model
    return {
        "id": model.id,
        "object": "model",
        "created": 0,
        "owned_by": model.checkpoint.partition("/")[0],
        "description": model.description,
        "link": _link(model),
        "dimensions": model.default_output_dimension,
        "output_dimensions": model.output_dimensions,
        "context_tokens": model.context_tokens,
        "max_inputs": model.max_inputs,
        "max_input_characters": model.max_input_characters,
        "max_request_tokens": model.max_request_tokens,
        "price": _price(model, caller),
        **_service(state),
    }


def _price(model: Model, caller: Caller) -> dict[str, object] | None:
    """Of the caller's plan, where it has one."""
    try:
        price = caller.price(caller.now())
        token_price = price.token_price(model.id)
    except (ModelHasNoPrice, PlanHasNoPrice):
        return None
    return {"currency": price.currency, "microunits_per_million_tokens": token_price}


def _service(state: ModelState) -> dict[str, object]:
    """What stands behind an id: never what its name may make one think."""
    return {
        "checkpoint": state.model.checkpoint,
        "revision": state.model.installed_revision if state.is_installed else None,
        "is_upstream": state.model.upstream is not None,
        "installed": state.is_installed,
        "ready": state.is_ready,
        "workers": state.workers,
    }


def _link(model: Model) -> str:
    """The checkpoint's own page."""
    return f"https://huggingface.co/{model.checkpoint}"
