"""Which recordings may differ: excused.toml, read."""

import tomllib

from tests.recordings.recorded import FOLDER

_FILE = tomllib.loads((FOLDER / "excused.toml").read_text())
REQUESTS: dict[str, str] = _FILE["requests"]
OUTPUTS: dict[str, str] = _FILE["outputs"]
