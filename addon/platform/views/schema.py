"""What the Platform API is, for programs and for people. Nobody needs a token for that."""

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from rest_framework.request import Request
from rest_framework.response import Response

from addon.platform.schema.hyper_schema import own_schema
from addon.platform.schema.openapi import document
from addon.platform.views.base import PlatformView
from addon.platform.views.pages import Page

# Swagger UI is a script, has icons as data: URLs, and sends what a reader tries out.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class SchemaView(PlatformView):
    """The JSON hyper-schema, from which Heroku's clients are generated."""

    authentication_classes = []

    def get(self, request: Request) -> Response:
        return Response(own_schema())


class OpenApiView(PlatformView):
    authentication_classes = []

    def get(self, request: Request) -> Response:
        return Response(document())


class OpenApiPage(Page):
    """The OpenAPI document to read, and to try out with a token."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = super().dispatch(request, *args, **kwargs)
        response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response

    def get(self, request: HttpRequest) -> HttpResponse:
        return render(request, "platform/openapi.html")
