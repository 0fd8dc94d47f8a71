"""Routes of the Partner API, below /heroku/."""

from django.urls import path

from addon.provider import views

urlpatterns = [
    path("resources", views.ResourcesView.as_view()),
    path("resources/<str:resource>", views.ResourceView.as_view()),
    path("resources/<str:resource>/attachments/<str:attachment>", views.AttachmentView.as_view()),
]
