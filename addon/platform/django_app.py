from django.apps import AppConfig


class PlatformConfig(AppConfig):
    name = "addon.platform"
    label = "platform"
    verbose_name = "Add-on platform"
