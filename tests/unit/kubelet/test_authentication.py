"""Who calls: by certificate, by token, and who is nobody."""

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
from farlet.kubelet import auth
from unit import certificates, faketime
from unit.certificates import CLIENT, HOUR, SERVER, Pair
from unit.certs import home_server as home
from unit.certs.home_server import Home

CA, STRANGER = certificates.authority(), certificates.authority("a CA of another cluster")
BELOW = certificates.authority("an intermediate", of=CA)
BELOW_STRANGER = certificates.authority(of=STRANGER)
NOW = datetime.now(UTC)
API_SERVER = "kube-apiserver-kubelet-client"


def _ca(folder: Path, *anchors: Pair) -> client_ca.ClientCA:
    file = folder / "client-ca.crt"
    file.write_text("".join(anchor.pem for anchor in anchors or (CA,)))
    made = client_ca.ClientCA(Home(), file=file)
    made.look()
    return made


def _authenticator(
    asked: Home, ca: client_ca.ClientCA, *, now: Callable[[], datetime] = lambda: NOW
) -> auth.Authenticator:
    clock = asyncio.get_running_loop().time
    return auth.Authenticator(asked, ca, clock=clock, now=now)


def _issue(ca: Pair = CA, **how: Any) -> Pair:
    return certificates.issue(ca, **{"user": API_SERVER, "groups": ["system:masters"], **how})


@dataclass(frozen=True)
class _Case:
    pair: Pair
    known: bool
    anchors: Sequence[Pair] = (CA,)


CERTIFICATES: dict[str, _Case] = {
    "of the client CA": _Case(_issue(), known=True),
    "for no use in particular": _Case(_issue(uses=[]), known=True),
    "for both uses": _Case(_issue(uses=[SERVER, CLIENT]), known=True),
    "for servers": _Case(_issue(uses=[SERVER]), known=False),
    "of a stranger": _Case(_issue(STRANGER), known=False),
    "of a stranger of the same name": _Case(_issue(certificates.authority()), known=False),
    "signed by itself": _Case(certificates.authority(API_SERVER), known=False),
    "expired": _Case(_issue(begins=NOW - 2 * HOUR, ends=NOW - HOUR), known=False),
    "not valid yet": _Case(_issue(begins=NOW + HOUR, ends=NOW + 2 * HOUR), known=False),
    "of the second CA of the bundle": _Case(_issue(STRANGER), known=True, anchors=(CA, STRANGER)),
    "of an intermediate in the bundle": _Case(_issue(BELOW), known=True, anchors=(CA, BELOW)),
    "of an intermediate that the bundle lacks": _Case(_issue(BELOW), known=False),
    "of a client that is no CA": _Case(_issue(_issue()), known=False, anchors=(CA,)),
    "of a CA that has expired": _Case(
        _issue(old := certificates.authority("old", ends=NOW - timedelta(minutes=1))),
        known=False,
        anchors=(CA, old),
    ),
    "without a name": _Case(_issue(subject=x509.Name([])), known=False),
}


@pytest.mark.parametrize("case", CERTIFICATES.values(), ids=CERTIFICATES)
async def test_a_certificate(case: _Case, tmp_path: Path) -> None:
    found = await _authenticator(Home(), _ca(tmp_path, *case.anchors)).who(case.pair.der, None)
    assert (found is not None) is case.known


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
    assert await _authenticator(Home(), _ca(tmp_path)).who(pair.der, None) == auth.User(
        name="last",
        groups=("ops", "dev", "system:authenticated"),
        uid="7",
        extra=(("authentication.kubernetes.io/credential-id", (f"X509SHA256={digest}",)),),
    )


async def test_a_connection_may_outlive_its_certificate(tmp_path: Path) -> None:
    late = NOW
    authenticator = _authenticator(Home(), _ca(tmp_path), now=lambda: late)
    pair = _issue(ends=NOW + HOUR)
    assert await authenticator.who(pair.der, None) is not None
    late = NOW + HOUR + timedelta(seconds=1)
    assert await authenticator.who(pair.der, None) is None


async def test_a_connection_may_outlive_the_ca(tmp_path: Path) -> None:
    ca = _ca(tmp_path)
    authenticator = _authenticator(Home(), ca)
    assert await authenticator.who(_issue().der, None) is not None
    (tmp_path / "client-ca.crt").write_text(STRANGER.pem)
    ca.look()
    assert await authenticator.who(_issue().der, None) is None


async def test_what_is_no_certificate_is_nobody(tmp_path: Path) -> None:
    assert await _authenticator(Home(), _ca(tmp_path)).who(b"\x30\x00", None) is None


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
SCRAPER = auth.User(
    name="system:serviceaccount:monitoring:scraper",
    groups=("system:serviceaccounts", "system:authenticated"),
    uid="u1",
    extra=(("a", ("1", "0")), ("b", ("2",))),
)

HEADERS: dict[str, tuple[str | None, str | None]] = {
    "none": (None, None),
    "empty": ("", None),
    "of a token": ("Bearer abc", "abc"),
    "in other letters": ("bEARER abc", "abc"),
    "with blanks around": ("  Bearer abc  ", "abc"),
    "with more behind": ("Bearer abc def", "abc"),
    "without a token": ("Bearer", None),
    "with blanks for a token": ("Bearer   abc", None),
    "of a password": ("Basic dTpw", None),
    "that is no ASCII": ("Bearer ab\xe9", None),
}


@pytest.mark.parametrize(("header", "token"), HEADERS.values(), ids=HEADERS)
async def test_a_header(header: str | None, token: str | None, tmp_path: Path) -> None:
    asked = Home()
    asked.review = lambda _: GOOD
    found = await _authenticator(asked, _ca(tmp_path)).who(None, header)
    assert found == (SCRAPER if token else None)
    assert [body["spec"] for _, _, body in asked.asked] == ([{"token": token}] if token else [])


REVIEWS: dict[str, tuple[dict[str, Any], bool]] = {
    "good": (GOOD, True),
    "bad": ({"authenticated": False, "error": "expired"}, False),
    "empty": ({}, False),
    "good, but of nobody": ({"authenticated": True, "user": {}}, False),
    "no true answer": ({"authenticated": "yes", "user": GOOD["user"]}, False),
}


@pytest.mark.parametrize(("status", "known"), REVIEWS.values(), ids=REVIEWS)
async def test_a_review(status: dict[str, Any], known: bool, tmp_path: Path) -> None:
    asked = Home()
    asked.review = lambda _: status
    found = await _authenticator(asked, _ca(tmp_path)).who(None, "Bearer abc")
    assert (found is not None) is known


KEPT = [
    pytest.param(GOOD, 119.0, 1, id="good, within two minutes"),
    pytest.param(GOOD, 121.0, 2, id="good, after two minutes"),
    pytest.param({}, 9.0, 1, id="bad, within ten seconds"),
    pytest.param({}, 11.0, 2, id="bad, after ten seconds"),
]


@pytest.mark.parametrize(("status", "seconds", "reviews"), KEPT)
def test_a_token_seen_before(
    status: dict[str, Any], seconds: float, reviews: int, tmp_path: Path
) -> None:
    async def main() -> None:
        asked = Home()
        asked.review = lambda _: status
        authenticator = _authenticator(asked, _ca(tmp_path))
        await authenticator.who(None, "Bearer abc")
        await asyncio.sleep(seconds)
        await authenticator.who(None, "Bearer abc")
        assert asked.count("POST", home.TOKEN_REVIEWS) == reviews

    faketime.run(main())


async def test_another_token_is_another_question(tmp_path: Path) -> None:
    asked = Home()
    asked.review = lambda spec: GOOD if spec["token"] == "abc" else {}
    authenticator = _authenticator(asked, _ca(tmp_path))
    found = [await authenticator.who(None, f"Bearer {token}") for token in ("abc", "abd", "ab")]
    assert found == [SCRAPER, None, None]


async def test_no_token_is_kept(tmp_path: Path) -> None:
    asked = Home()
    asked.review = lambda _: GOOD
    authenticator = _authenticator(asked, _ca(tmp_path))
    await authenticator.who(None, "Bearer hush")
    assert "hush" not in repr(vars(authenticator)) + repr(vars(authenticator._reviews))


@pytest.mark.parametrize(
    "failing",
    [
        pytest.param(home.unreachable, id="does not answer"),
        pytest.param(lambda: home.refusal(403), id="does not let farlet ask"),
    ],
)
async def test_where_home_gives_no_answer_nobody_is_let_in(
    failing: Callable[[], Any], tmp_path: Path
) -> None:
    asked = Home()
    asked.failing = failing
    authenticator = _authenticator(asked, _ca(tmp_path))
    assert await authenticator.who(None, "Bearer abc") is None
    asked.failing, asked.review = None, lambda _: GOOD
    assert await authenticator.who(None, "Bearer abc") == SCRAPER


async def test_a_certificate_goes_before_a_token(tmp_path: Path) -> None:
    asked = Home()
    found = await _authenticator(asked, _ca(tmp_path)).who(_issue().der, "Bearer abc")
    assert found is not None
    assert (found.name, asked.asked) == (API_SERVER, [])


async def test_a_token_may_make_up_for_a_certificate(tmp_path: Path) -> None:
    asked = Home()
    asked.review = lambda _: GOOD
    found = await _authenticator(asked, _ca(tmp_path)).who(_issue(STRANGER).der, "Bearer abc")
    assert found == SCRAPER
