import sys

from django.apps import AppConfig


class InferenceConfig(AppConfig):
    name = "inference"
    verbose_name = "Inference"

    def ready(self) -> None:
        """A wrong catalogue stops every process at its start, with one line that says where."""
        from inference.catalogue import load_catalogue
        from inference.catalogue_file import InvalidCatalogue

        try:
            load_catalogue()
        except InvalidCatalogue as error:
            sys.exit(str(error))
