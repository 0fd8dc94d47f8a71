from django.apps import AppConfig


class ConfigConfig(AppConfig):
    """Makes `config` an installed app, for the management commands that need all packages."""

    name = "config"

    def ready(self) -> None:
        # From here on our Celery application is the current one, in every Django process.
        from config import celery  # noqa: F401
