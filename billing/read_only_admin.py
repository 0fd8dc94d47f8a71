"""Admin pages of rows that are not edited by hand."""

from django.db.models import Model
from django.http import HttpRequest


class ReadOnly:
    """To be mixed into a ModelAdmin: its rows can be looked at, and nothing else."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
