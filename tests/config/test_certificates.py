"""The authority of the proxy for the heroku CLI: what a client that is given it believes."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from config.certificates import CLOCKS_DIFFER_BY, VALID_FOR, certify

HOSTS = ["api.heroku.com", "*.inference.heroku.com", "http://localhost:5000"]
NOW = datetime.now(UTC).replace(microsecond=0)


def shake_hands(server: ssl.SSLContext, authority_file: Path, host: str) -> None:
    """A handshake in memory; raises ssl.SSLCertVerificationError if the client does not believe."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=str(authority_file))
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(3):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ends[0].version() == "TLSv1.3"


@pytest.fixture
def authority_file(tmp_path: Path) -> Path:
    return tmp_path / "authority.pem"


@pytest.mark.parametrize("host", ["api.heroku.com", "us.inference.heroku.com"])
def test_a_client_with_the_authority_believes_in_the_hosts(authority_file: Path, host: str) -> None:
    shake_hands(certify(HOSTS, authority_file, NOW).context, authority_file, host)


@pytest.mark.parametrize("host", ["git.heroku.com", "example.com", "a.b.inference.heroku.com"])
def test_a_client_with_the_authority_believes_in_no_other(authority_file: Path, host: str) -> None:
    certified = certify(HOSTS, authority_file, NOW)
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
        shake_hands(certified.context, authority_file, host)


def test_a_client_with_an_earlier_authority_does_not_believe(
    authority_file: Path, tmp_path: Path
) -> None:
    certify(HOSTS, tmp_path / "earlier.pem", NOW)
    certified = certify(HOSTS, authority_file, NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(certified.context, tmp_path / "earlier.pem", "api.heroku.com")


def test_the_authority_may_vouch_for_the_hosts_only(authority_file: Path) -> None:
    certify(HOSTS, authority_file, NOW)
    authority = x509.load_pem_x509_certificate(authority_file.read_bytes())
    constraints = authority.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    permitted = [name.value for name in constraints.value.permitted_subtrees or []]
    assert permitted == ["api.heroku.com", "inference.heroku.com", "http://localhost:5000"]


def test_the_authority_is_for_the_user_only_and_its_key_is_kept_nowhere(
    authority_file: Path,
) -> None:
    certify(HOSTS, authority_file, NOW)
    assert authority_file.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in authority_file.read_bytes()
    assert list(authority_file.parent.iterdir()) == [authority_file]


def test_it_is_renewed_before_it_ends(authority_file: Path) -> None:
    certified = certify(HOSTS, authority_file, NOW)
    authority = x509.load_pem_x509_certificate(authority_file.read_bytes())
    assert authority.not_valid_before_utc == NOW - CLOCKS_DIFFER_BY
    assert authority.not_valid_after_utc == NOW + VALID_FOR
    assert NOW < certified.renew_at <= authority.not_valid_after_utc - timedelta(days=1)
