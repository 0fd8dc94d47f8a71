"""Routes of the Platform API, at the root: the CLI drops a path prefix. No trailing slashes."""

from django.urls import path

from addon.platform import views

urlpatterns = [
    path("account", views.AccountView.as_view()),
    path("actions/addon-attachments/resolve", views.ResolveAttachmentsView.as_view()),
    path("actions/addons/resolve", views.ResolveAddonsView.as_view()),
    path("addon-attachments", views.AttachmentsView.as_view()),
    path("addon-attachments/<str:attachment>", views.AttachmentView.as_view()),
    path("addon-services", views.AddonServicesView.as_view()),
    path("addon-services/<str:service>", views.AddonServiceView.as_view()),
    path("addon-services/<str:service>/plans", views.PlansView.as_view()),
    path("addon-services/<str:service>/plans/<str:plan>", views.PlanView.as_view()),
    path("addons", views.AddonsView.as_view()),
    path("addons/<str:addon>", views.AddonView.as_view()),
    path("addons/<str:addon>/addon-attachments", views.AddonAttachmentsView.as_view()),
    path("apps", views.AppsView.as_view()),
    path("apps/<str:app>", views.AppView.as_view()),
    path("apps/<str:app>/addon-attachments", views.AppAttachmentsView.as_view()),
    path("apps/<str:app>/addon-attachments/<str:attachment>", views.AppAttachmentView.as_view()),
    path("apps/<str:app>/addons", views.AppAddonsView.as_view()),
    path("apps/<str:app>/addons/<str:addon>", views.AppAddonView.as_view()),
    path("apps/<str:app>/collaborators", views.CollaboratorsView.as_view()),
    path("apps/<str:app>/config-vars", views.ConfigVarsView.as_view()),
    path("apps/<str:app>/dynos", views.DynosView.as_view()),
    path("apps/<str:app>/pipeline-couplings", views.PipelineCouplingsView.as_view()),
    path("apps/<str:app>/releases", views.ReleasesView.as_view()),
    path("apps/<str:app>/releases/<str:release>", views.ReleaseView.as_view()),
    path("regions", views.RegionsView.as_view()),
    path("users/~/apps", views.OwnAppsView.as_view()),
]
