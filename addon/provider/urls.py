"""Routes of the Partner API and of the provider's pages, below /heroku/."""

from django.urls import path

from addon.provider import pages, views

urlpatterns = [
    path("dashboard/<uuid:resource>", pages.ResourcePage.as_view()),
    path(
        "dashboard/<uuid:resource>/attachments/<uuid:attachment>/rotate",
        pages.RotateKeyPage.as_view(),
    ),
    path("dashboard/<uuid:resource>/sign-out", pages.SignOutPage.as_view()),
    path("resources", views.ResourcesView.as_view()),
    path("resources/<str:resource>", views.ResourceView.as_view()),
    path(
        "resources/<str:resource>/actions/rotate-credentials",
        views.RotateCredentialsView.as_view(),
    ),
    path("resources/<str:resource>/attachments/<str:attachment>", views.AttachmentView.as_view()),
    path("webhooks", views.WebhooksView.as_view()),
    path("sso", pages.SignOnPage.as_view()),
]
