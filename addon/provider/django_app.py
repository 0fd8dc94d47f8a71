from django.apps import AppConfig


class ProviderConfig(AppConfig):
    name = "addon.provider"
    label = "provider"
    verbose_name = "Add-on provider"
