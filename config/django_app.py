from django.apps import AppConfig


class ConfigConfig(AppConfig):
    """Makes `config` an installed app, for the management commands that need all packages."""

    name = "config"
