"""Callers are identified by certificate or token, or rejected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from farlet.certs import client_ca
from farlet.kubelet import authentication
from unit import certificates, faketime
from unit.certificates import CLIENT, HOUR, SERVER, Pair
from unit.certs import home_server as home
from unit.certs.home_server import Home

CA, OTHER_CA = certificates.authority(), certificates.authority("a CA of another cluster")
INTERMEDIATE = certificates.authority("an intermediate", of=CA)
INTERMEDIATE_OF_OTHER_CA = certificates.authority(of=OTHER_CA)
NOW = datetime.now(UTC)
API_SERVER = "kube-apiserver-kubelet-client"


def _ca(folder: Path, *anchors: Pair) -> client_ca.ClientCA:
    file = folder / "client-ca.crt"
    file.write_text("".join(anchor.pem for anchor in anchors or (CA,)))
    ca = client_ca.ClientCA(Home(), file=file)
    ca.read_file()
    return ca


def _authenticator(
    server: Home, ca: client_ca.ClientCA, *, now: Callable[[], datetime] = lambda: NOW
) -> authentication.Authenticator:
    clock = asyncio.get_running_loop().time
    return authentication.Authenticator(server, ca, clock=clock, now=now)


def _issue(ca: Pair = CA, **options: Any) -> Pair:
    return certificates.issue(ca, **{"user": API_SERVER, "groups": ["system:masters"], **options})


@dataclass(frozen=True)
class _Case:
    pair: Pair
    accepted: bool
    anchors: Sequence[Pair] = (CA,)


CERTIFICATES: dict[str, _Case] = {
    "of the client CA": _Case(_issue(), accepted=True),
    "without extended key usage": _Case(_issue(uses=[]), accepted=True),
    "for servers and clients": _Case(_issue(uses=[SERVER, CLIENT]), accepted=True),
    "for servers": _Case(_issue(uses=[SERVER]), accepted=False),
    "of another CA": _Case(_issue(OTHER_CA), accepted=False),
    "of another CA of the same name": _Case(_issue(certificates.authority()), accepted=False),
    "that is self-signed": _Case(certificates.authority(API_SERVER), accepted=False),
    "that has expired": _Case(_issue(begins=NOW - 2 * HOUR, ends=NOW - HOUR), accepted=False),
    "that is not valid yet": _Case(_issue(begins=NOW + HOUR, ends=NOW + 2 * HOUR), accepted=False),
    "of the second CA of the bundle": _Case(
        _issue(OTHER_CA), accepted=True, anchors=(CA, OTHER_CA)
    ),
    "of an intermediate CA in the bundle": _Case(
        _issue(INTERMEDIATE), accepted=True, anchors=(CA, INTERMEDIATE)
    ),
    "of an intermediate CA outside the bundle": _Case(_issue(INTERMEDIATE), accepted=False),
    "issued by a client certificate": _Case(_issue(_issue()), accepted=False, anchors=(CA,)),
    "of a CA that has expired": _Case(
        _issue(old := certificates.authority("old", ends=NOW - timedelta(minutes=1))),
        accepted=False,
        anchors=(CA, old),
    ),
    "without a name": _Case(_issue(subject=x509.Name([])), accepted=False),
}


@pytest.mark.parametrize("case", CERTIFICATES.values(), ids=CERTIFICATES)
async def test_a_client_certificate(case: _Case, tmp_path: Path) -> None:
    found = await _authenticator(Home(), _ca(tmp_path, *case.anchors)).authenticate(
        case.pair.der, None
    )
    assert (found is not None) is case.accepted


async def test_the_user_of_a_certificate(tmp_path: Path) -> None:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "first"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "ops"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "dev"),
            x509.NameAttribute(NameOID.COMMON_NAME, "last"),
            x509.NameAttribute(x509.ObjectIdentifier("1.3.6.1.4.1.57683.2"), "7"),
        ]
    )
    pair = _issue(subject=subject)
    digest = pair.certificate.fingerprint(hashes.SHA256()).hex()
    assert await _authenticator(Home(), _ca(tmp_path)).authenticate(
        pair.der, None
    ) == authentication.User(
        name="last",
        groups=("ops", "dev", "system:authenticated"),
        uid="7",
        extra=(("authentication.kubernetes.io/credential-id", (f"X509SHA256={digest}",)),),
    )


async def test_a_certificate_is_rejected_once_it_has_expired(tmp_path: Path) -> None:
    current = NOW
    authenticator = _authenticator(Home(), _ca(tmp_path), now=lambda: current)
    pair = _issue(ends=NOW + HOUR)
    assert await authenticator.authenticate(pair.der, None) is not None
    current = NOW + HOUR + timedelta(seconds=1)
    assert await authenticator.authenticate(pair.der, None) is None


async def test_a_certificate_is_rejected_once_its_ca_was_replaced(tmp_path: Path) -> None:
    ca = _ca(tmp_path)
    authenticator = _authenticator(Home(), ca)
    assert await authenticator.authenticate(_issue().der, None) is not None
    (tmp_path / "client-ca.crt").write_text(OTHER_CA.pem)
    ca.read_file()
    assert await authenticator.authenticate(_issue().der, None) is None


async def test_an_invalid_certificate_is_rejected(tmp_path: Path) -> None:
    assert await _authenticator(Home(), _ca(tmp_path)).authenticate(b"\x30\x00", None) is None


# --- tokens -----------------------------------------------------------------------------------

GOOD = {
    "authenticated": True,
    "user": {
        "username": "system:serviceaccount:monitoring:scraper",
        "uid": "u1",
        "groups": ["system:serviceaccounts", "system:authenticated"],
        "extra": {"b": ["2"], "a": ["1", "0"]},
    },
}
SCRAPER = authentication.User(
    name="system:serviceaccount:monitoring:scraper",
    groups=("system:serviceaccounts", "system:authenticated"),
    uid="u1",
    extra=(("a", ("1", "0")), ("b", ("2",))),
)

HEADERS: dict[str, tuple[str | None, str | None]] = {
    "none": (None, None),
    "empty": ("", None),
    "of a token": ("Bearer abc", "abc"),
    "in another case": ("bEARER abc", "abc"),
    "with spaces around it": ("  Bearer abc  ", "abc"),
    "with a further word": ("Bearer abc def", "abc"),
    "without a token": ("Bearer", None),
    "with spaces in place of a token": ("Bearer   abc", None),
    "of a password": ("Basic dTpw", None),
    "that is not ASCII": ("Bearer ab\xe9", None),
}


@pytest.mark.parametrize(("header", "token"), HEADERS.values(), ids=HEADERS)
async def test_a_header(header: str | None, token: str | None, tmp_path: Path) -> None:
    server = Home()
    server.review = lambda _: GOOD
    found = await _authenticator(server, _ca(tmp_path)).authenticate(None, header)
    assert found == (SCRAPER if token else None)
    assert [body["spec"] for _, _, body in server.requests_seen] == (
        [{"token": token}] if token else []
    )


REVIEWS: dict[str, tuple[dict[str, Any], bool]] = {
    "valid": (GOOD, True),
    "invalid": ({"authenticated": False, "error": "expired"}, False),
    "empty": ({}, False),
    "valid, but without a user": ({"authenticated": True, "user": {}}, False),
    "without a boolean": ({"authenticated": "yes", "user": GOOD["user"]}, False),
    "with extra fields of another form": (
        {"authenticated": True, "user": {"username": "x", "extra": {"a": 1}}},
        False,
    ),
    "with a user that is a text": ({"authenticated": True, "user": "x"}, False),
}


@pytest.mark.parametrize(("status", "accepted"), REVIEWS.values(), ids=REVIEWS)
async def test_a_review(status: dict[str, Any], accepted: bool, tmp_path: Path) -> None:
    server = Home()
    server.review = lambda _: status
    found = await _authenticator(server, _ca(tmp_path)).authenticate(None, "Bearer abc")
    assert (found is not None) is accepted


CACHED = [
    pytest.param(GOOD, 119.0, 1, id="valid, within two minutes"),
    pytest.param(GOOD, 121.0, 2, id="valid, after two minutes"),
    pytest.param({}, 9.0, 1, id="invalid, within ten seconds"),
    pytest.param({}, 11.0, 2, id="invalid, after ten seconds"),
]


@pytest.mark.parametrize(("status", "seconds", "reviews"), CACHED)
def test_reviews_of_the_same_token(
    status: dict[str, Any], seconds: float, reviews: int, tmp_path: Path
) -> None:
    async def main() -> None:
        server = Home()
        server.review = lambda _: status
        authenticator = _authenticator(server, _ca(tmp_path))
        await authenticator.authenticate(None, "Bearer abc")
        await asyncio.sleep(seconds)
        await authenticator.authenticate(None, "Bearer abc")
        assert server.count("POST", home.TOKEN_REVIEWS) == reviews

    faketime.run(main())


async def test_each_token_is_reviewed(tmp_path: Path) -> None:
    server = Home()
    server.review = lambda spec: GOOD if spec["token"] == "abc" else {}
    authenticator = _authenticator(server, _ca(tmp_path))
    found = [
        await authenticator.authenticate(None, f"Bearer {token}") for token in ("abc", "abd", "ab")
    ]
    assert found == [SCRAPER, None, None]


async def test_tokens_are_not_kept_in_memory(tmp_path: Path) -> None:
    server = Home()
    server.review = lambda _: GOOD
    authenticator = _authenticator(server, _ca(tmp_path))
    await authenticator.authenticate(None, "Bearer hush")
    assert "hush" not in repr(vars(authenticator)) + repr(vars(authenticator._reviews))


@pytest.mark.parametrize(
    "failing",
    [
        pytest.param(home.unreachable, id="does not answer"),
        pytest.param(lambda: home.refusal(403), id="does not allow the review"),
    ],
)
async def test_a_caller_is_rejected_if_home(failing: Callable[[], Any], tmp_path: Path) -> None:
    server = Home()
    server.failing = failing
    authenticator = _authenticator(server, _ca(tmp_path))
    assert await authenticator.authenticate(None, "Bearer abc") is None
    server.failing, server.review = None, lambda _: GOOD
    assert await authenticator.authenticate(None, "Bearer abc") == SCRAPER


async def test_a_certificate_takes_precedence_over_a_token(tmp_path: Path) -> None:
    server = Home()
    found = await _authenticator(server, _ca(tmp_path)).authenticate(_issue().der, "Bearer abc")
    assert found is not None
    assert (found.name, server.requests_seen) == (API_SERVER, [])


async def test_a_token_is_used_if_the_certificate_is_rejected(tmp_path: Path) -> None:
    server = Home()
    server.review = lambda _: GOOD
    found = await _authenticator(server, _ca(tmp_path)).authenticate(
        _issue(OTHER_CA).der, "Bearer abc"
    )
    assert found == SCRAPER
