"""The URL root: the admin, the Partner API under /heroku/, pages and the Platform API at the top.

The inference routes are not here: config.asgi serves them before Django sees them.
"""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from config.views import welcome

admin.site.site_header = "Annex"
admin.site.site_title = "Annex"
admin.site.index_title = "Operator"

urlpatterns = [
    path("", welcome),
    path("admin", RedirectView.as_view(url="/admin/")),  # APPEND_SLASH is off for the APIs
    path("admin/", admin.site.urls),
    path("heroku/", include("addon.provider.urls")),
    path("", include("addon.platform.page_urls")),
    path("", include("addon.platform.urls")),
]

handler400 = "addon.platform.errors.json_bad_request"
handler404 = "addon.platform.errors.json_not_found"
handler500 = "addon.platform.errors.json_server_error"
