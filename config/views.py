"""The page at the root, for people who open Annex's address in a browser."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def welcome(request: HttpRequest) -> HttpResponse:
    return render(request, "welcome.html", {"service_name": settings.ADDON_SERVICE_NAME})
