from django.apps import AppConfig


class PlatformConfig(AppConfig):
    name = "addon.platform"
    label = "platform"
    verbose_name = "Add-on platform"

    def ready(self) -> None:
        from addon.platform.changes import changed
        from addon.platform.webhook_events import record_change

        changed.connect(record_change)
