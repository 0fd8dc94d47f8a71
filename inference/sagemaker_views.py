"""SageMaker's routes: those of a container, and the runtime's call of an endpoint by its name."""

import asyncio

from django.conf import settings

from inference.authentication import Caller
from inference.aws_authentication import (
    authenticate_container,
    authenticate_signed,
    container_caller,
)
from inference.catalogue import (
    Model,
    ModelNotInstalled,
    UnknownModel,
    get_model,
    installed_models,
)
from inference.dispatch import WorkerUnavailable
from inference.http import Response, find_header
from inference.model_states import find_state
from inference.pools import shared_pools
from inference.views import Request, answer

# SageMaker's own limits. It gives up on a call after 60 s, and on a ping after 2.
BODY_MAX_BYTES = 6 * 1024 * 1024
TIMEOUT_S = 59.0
PING_TIMEOUT_S = 1.5


async def get_ping(request: Request) -> Response:
    """`GET /ping`: 200 where the model that `/invocations` asks for can be served.

    That is the model of SAGEMAKER_KEY's plan; without such a key, any. Raises WorkerUnavailable.
    """
    try:
        async with asyncio.timeout(PING_TIMEOUT_S):
            models, pools = await _served()
            states = [await find_state(request.redis, model, *pools) for model in models]
    except TimeoutError:
        raise WorkerUnavailable("of this container", "Redis or the database is slow") from None
    except (UnknownModel, ModelNotInstalled) as error:
        # There is nothing wrong with the path, which a 404 would say.
        raise WorkerUnavailable("of this container", "it is not installed") from error
    if not any(state.is_ready for state in states):
        names = ", ".join(model.id for model in models) or "none is installed"
        raise WorkerUnavailable(names, "no worker takes new work")
    return Response()


async def _served() -> tuple[list[Model], list[str]]:
    """The models of which one must be ready, and the pools of workers.

    Raises ContainerKeyInvalid, UnknownModel, ModelNotInstalled.
    """
    if not settings.SAGEMAKER_KEY:
        return list(installed_models().values()), shared_pools()
    caller = await container_caller()
    return [get_model(caller.model_id)], [caller.pool]


async def invoke_container(request: Request) -> Response:
    """`POST /invocations`: the model is that of the caller's plan."""
    caller = await authenticate_container(find_header(request.scope, b"authorization"))
    return await _invoke(request, caller, caller.model_id)


async def invoke_endpoint(request: Request) -> Response:
    """`POST /endpoints/NAME/invocations`: the name is the model's."""
    caller = await authenticate_signed(find_header(request.scope, b"authorization"))
    return await _invoke(request, caller, request.parameters["name"])


async def _invoke(request: Request, caller: Caller, model_id: str) -> Response:
    return await answer(
        request, caller, max_bytes=BODY_MAX_BYTES, timeout_s=TIMEOUT_S, model_id=model_id
    )
