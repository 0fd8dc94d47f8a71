"""What is on sale and where: add-on services, plans, regions."""

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from addon.platform import (
    addon_services,
    ranges,
)
from addon.platform.regions import REGIONS
from addon.platform.serializers import (
    addon_service_json,
    plan_json,
    region_json,
)
from addon.platform.views.base import PlatformView


class AddonServicesView(PlatformView):
    authentication_classes = []  # what is on sale may be read without an account

    def get(self, request: Request) -> Response:
        return ranges.answer_short(
            request, [addon_service_json(row) for row in addon_services.list_services()]
        )


class AddonServiceView(PlatformView):
    authentication_classes = []

    def get(self, request: Request, service: str) -> Response:
        return Response(addon_service_json(addon_services.get_service(service)))


class PlansView(PlatformView):
    authentication_classes = []

    def get(self, request: Request, service: str) -> Response:
        found = addon_services.get_service(service)
        now = timezone.now()
        plans = addon_services.visible_plans(found)
        return ranges.answer_short(request, [plan_json(plan, found, now) for plan in plans])


class PlanView(PlatformView):
    authentication_classes = []

    def get(self, request: Request, service: str, plan: str) -> Response:
        found = addon_services.get_service(service)
        return Response(plan_json(addon_services.get_plan(found, plan), found, timezone.now()))


class RegionsView(PlatformView):
    def get(self, request: Request) -> Response:
        return ranges.answer_short(request, [region_json(row) for row in REGIONS.values()])
