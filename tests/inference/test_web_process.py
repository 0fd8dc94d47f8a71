"""A web process never imports torch."""

import subprocess
import sys

from django.conf import settings

PROBE = """
import sys
import config.asgi
import config.celery
config.celery.app.loader.import_default_modules()
from inference.catalogue import get_model
from inference.tokenization import tokenize_now
tokenize_now(get_model("all-minilm-l6-v2"), ["hello"], "search_query")
heavy = {"torch", "transformers", "sentence_transformers"} & set(sys.modules)
assert not heavy, heavy
"""


def test_importing_and_tokenising_in_a_web_process_does_not_import_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
