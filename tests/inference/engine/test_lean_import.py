"""What the engine's import leaves out."""

import subprocess
import sys


def test_the_engine_is_imported_without_scipy() -> None:
    code = "import sys, inference.engine; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_list_of_models_is_that_of_transformers() -> None:
    code = """
import pathlib, transformers
from inference.engine import lean_import
of_the_file = str(pathlib.Path(transformers.__file__).parent / "models" / "__init__.py")
assert len(lean_import._of_folder(of_the_file)) > 1
assert lean_import._of_folder(of_the_file) == lean_import._define_import_structure(of_the_file)
transformers.models.bert.modeling_bert.BertModel
transformers.BertModel
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
