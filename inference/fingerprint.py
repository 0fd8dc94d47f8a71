"""The fingerprint of an embedding space: vectors under different ones must not be compared."""

from hashlib import sha256

import msgspec

from inference.calibration import Calibration
from inference.catalogue import Model
from inference.quantization import QUANTIZER_VERSION


def fingerprint(
    model: Model, input_type: str, dimension: int, calibration: Calibration | None
) -> str:
    """16 hexadecimal digits over all that makes a vector, which docs/quantization.md lists.

    `calibration` is None where no coordinate is quantised by its ranges. Raises ModelNotInstalled.
    """
    parts = (
        model.checkpoint,
        model.installed_revision,
        sorted(model.weights.items()),
        None if model.upstream is None else str(model.upstream),
        model.pooling,
        model.prompt(input_type),
        dimension,
        QUANTIZER_VERSION,
        None if calibration is None else calibration.version,
    )
    return sha256(msgspec.json.encode(parts)).hexdigest()[:16]
