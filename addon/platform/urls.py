"""Routes of the Platform API, at the root: the CLI drops a path prefix. No trailing slashes."""

from django.urls import URLPattern, path

from addon.platform.views import (
    accounts,
    addons,
    apps,
    attachments,
    billing,
    catalogue,
    collaborators,
    config,
    dashboard,
    partner,
    schema,
    teams,
    usage,
    webhooks,
)


def _of_a_payer(prefix: str) -> list[URLPattern]:
    """What an account has for itself, and a team for its admins."""
    invoice = f"{prefix}/invoices/<str:invoice>"
    events = f"{invoice}/lines/<str:line>/events"
    return [
        path(f"{prefix}/budgets", billing.BudgetsView.as_view()),
        path(f"{prefix}/budgets/<str:budget>", billing.BudgetView.as_view()),
        path(f"{prefix}/invoices", billing.InvoicesView.as_view()),
        path(f"{invoice}.csv", billing.InvoiceCsvView.as_view()),
        path(f"{invoice}.pdf", billing.InvoicePdfView.as_view()),
        path(invoice, billing.InvoiceView.as_view()),
        path(f"{invoice}/export", billing.InvoiceExportView.as_view()),
        path(f"{invoice}/lines", billing.InvoiceLinesView.as_view()),
        path(events, billing.InvoiceLineEventsView.as_view()),
        path(f"{events}.csv", billing.InvoiceLineEventsCsvView.as_view()),
    ]


urlpatterns = [
    path("account", accounts.AccountView.as_view()),
    *_of_a_payer("account"),
    path("account/rate-limits", accounts.RateLimitsView.as_view()),
    path("actions/addon-attachments/resolve", attachments.ResolveAttachmentsView.as_view()),
    path("actions/addons/resolve", addons.ResolveAddonsView.as_view()),
    path("addon-attachments", attachments.AttachmentsView.as_view()),
    path("addon-attachments/<str:attachment>", attachments.AttachmentView.as_view()),
    path("addon-attachments/<str:attachment>/config", partner.AttachmentConfigView.as_view()),
    path("addon-services", catalogue.AddonServicesView.as_view()),
    path("addon-services/<str:service>", catalogue.AddonServiceView.as_view()),
    path("addon-services/<str:service>/plans", catalogue.PlansView.as_view()),
    path("addon-services/<str:service>/plans/<str:plan>", catalogue.PlanView.as_view()),
    path("addons", addons.AddonsView.as_view()),
    path("addons/<str:addon>", addons.AddonView.as_view()),
    path("addons/<str:addon>/actions/rotate-credentials", addons.RotateCredentialsView.as_view()),
    path("addons/<str:addon>/actions/deprovision", partner.DeprovisionView.as_view()),
    path("addons/<str:addon>/actions/provision", partner.ProvisionView.as_view()),
    path("addons/<str:addon>/addon-attachments", attachments.AddonAttachmentsView.as_view()),
    path("addons/<str:addon>/config", addons.AddonConfigView.as_view()),
    path("addons/<str:addon>/config/<str:namespace>", addons.AddonNamespaceConfigView.as_view()),
    path("addons/<str:addon>/webhook-deliveries", webhooks.AddonWebhookDeliveriesView.as_view()),
    path(
        "addons/<str:addon>/webhook-deliveries/<str:delivery>",
        webhooks.AddonWebhookDeliveryView.as_view(),
    ),
    path("addons/<str:addon>/webhook-events", webhooks.AddonWebhookEventsView.as_view()),
    path("addons/<str:addon>/webhook-events/<str:event>", webhooks.AddonWebhookEventView.as_view()),
    path("addons/<str:addon>/webhooks", webhooks.AddonWebhooksView.as_view()),
    path("addons/<str:addon>/webhooks/<str:webhook>", webhooks.AddonWebhookView.as_view()),
    path("apps", apps.AppsView.as_view()),
    path("apps/<str:app>", apps.AppView.as_view()),
    path("apps/<str:app>/addon-attachments", attachments.AppAttachmentsView.as_view()),
    path(
        "apps/<str:app>/addon-attachments/<str:attachment>", attachments.AppAttachmentView.as_view()
    ),
    path("apps/<str:app>/addons", addons.AppAddonsView.as_view()),
    path("apps/<str:app>/addons/<str:addon>", addons.AppAddonView.as_view()),
    path("apps/<str:app>/addons/<str:addon>/sso", dashboard.AddonSingleSignOnView.as_view()),
    path("apps/<str:app>/buildpack-installations", apps.BuildpackInstallationsView.as_view()),
    path("apps/<str:app>/collaborators", collaborators.CollaboratorsView.as_view()),
    path(
        "apps/<str:app>/collaborators/<str:collaborator>", collaborators.CollaboratorView.as_view()
    ),
    path("apps/<str:app>/config-vars", config.ConfigVarsView.as_view()),
    path("apps/<str:app>/dynos", apps.DynosView.as_view()),
    path("apps/<str:app>/pipeline-couplings", apps.PipelineCouplingsView.as_view()),
    path("apps/<str:app>/releases", config.ReleasesView.as_view()),
    path("apps/<str:app>/releases/<str:release>", config.ReleaseView.as_view()),
    path(
        "apps/<str:app>/releases/<str:release>/config-vars", config.ReleaseConfigVarsView.as_view()
    ),
    path("apps/<str:app>/usage", usage.AppUsageView.as_view()),
    path("apps/<str:app>/webhook-deliveries", webhooks.WebhookDeliveriesView.as_view()),
    path(
        "apps/<str:app>/webhook-deliveries/<str:delivery>", webhooks.WebhookDeliveryView.as_view()
    ),
    path("apps/<str:app>/webhook-events", webhooks.WebhookEventsView.as_view()),
    path("apps/<str:app>/webhook-events/<str:event>", webhooks.WebhookEventView.as_view()),
    path("apps/<str:app>/webhooks", webhooks.WebhooksView.as_view()),
    path("apps/<str:app>/webhooks/<str:webhook>", webhooks.WebhookView.as_view()),
    path("invoice-signing-key", billing.InvoiceSigningKeyView.as_view()),
    path("oauth/authorizations", accounts.AuthorizationsView.as_view()),
    path("oauth/authorizations/<str:authorization>", accounts.AuthorizationView.as_view()),
    path(
        "oauth/authorizations/<str:authorization>/actions/regenerate-tokens",
        accounts.RegenerateTokensView.as_view(),
    ),
    path("oauth/sessions/~", accounts.OwnSessionView.as_view()),
    path("oauth/token", partner.OAuthTokenView.as_view()),
    path("openapi/platform", schema.OpenApiPage.as_view()),
    path("openapi/platform.json", schema.OpenApiView.as_view()),
    path("regions", catalogue.RegionsView.as_view()),
    path("schema", schema.SchemaView.as_view()),
    path("teams", teams.TeamsView.as_view()),
    path("teams/apps", teams.NewTeamAppView.as_view()),
    path("teams/apps/<str:app>", teams.TeamAppView.as_view()),
    path("teams/apps/<str:app>/collaborators", collaborators.TeamAppCollaboratorsView.as_view()),
    path(
        "teams/apps/<str:app>/collaborators/<str:collaborator>",
        collaborators.TeamAppCollaboratorView.as_view(),
    ),
    path("teams/permissions", teams.TeamPermissionsView.as_view()),
    path("teams/<str:team>", teams.TeamView.as_view()),
    path("teams/<str:team>/addons", usage.TeamAddonsView.as_view()),
    path("teams/<str:team>/apps", teams.TeamAppsView.as_view()),
    path("teams/<str:team>/apps/<str:app>/usage", usage.TeamAppUsageView.as_view()),
    path("teams/<str:team>/features", teams.TeamFeaturesView.as_view()),
    path("teams/<str:team>/members", teams.TeamMembersView.as_view()),
    path("teams/<str:team>/members/<str:member>", teams.TeamMemberView.as_view()),
    path("teams/<str:team>/usage", usage.TeamUsageView.as_view()),
    *_of_a_payer("teams/<str:team>"),
    path("user/notifications", accounts.NotificationsView.as_view()),
    path("user/notifications/<str:notification>", accounts.NotificationView.as_view()),
    path("users/~", accounts.AccountView.as_view()),
    path("users/~/apps", apps.OwnAppsView.as_view()),
    path("vendor/resources/<str:addon>/oauth-grant", partner.OAuthGrantView.as_view()),
]
