"""Certificates with their keys: parsing, signing requests, checks and storage."""

from __future__ import annotations

import ipaddress
import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from farlet.certs import key_pairs
from unit import certificates
from unit.certificates import SERVER, Pair

CA = certificates.authority()
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def _parsed(pair: Pair) -> key_pairs.KeyPair:
    return key_pairs.parse(pair.pem.encode(), pair.key_pem.encode())


def test_a_request_has_the_format_that_node_signers_accept() -> None:
    key = key_pairs.new_key()
    pem = key_pairs.request(key, node="far", addresses=["10.0.0.1", "fd00::1", "far.example.org"])
    request = x509.load_pem_x509_csr(pem)
    assert request.is_signature_valid
    assert isinstance(key.curve, ec.SECP256R1)
    names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    groups = request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    assert ([n.value for n in names], [g.value for g in groups]) == (
        ["system:node:far"],
        ["system:nodes"],
    )
    found = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.DNSName) == ["far.example.org"]
    assert found.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("10.0.0.1"),
        ipaddress.ip_address("fd00::1"),
    ]


def test_a_request_for_a_client_certificate_contains_no_address() -> None:
    request = x509.load_pem_x509_csr(
        key_pairs.request(key_pairs.new_key(), node="far", addresses=[])
    )
    assert list(request.extensions) == []


COVERS: dict[str, tuple[str, Sequence[str], Sequence[str], Sequence[str], bool]] = {
    "the same": ("system:node:far", ["system:nodes"], ["10.0.0.1"], ["10.0.0.1"], True),
    "an additional address": (
        "system:node:far",
        ["system:nodes"],
        ["10.0.0.1", "a.b"],
        ["10.0.0.1"],
        True,
    ),
    "another address": ("system:node:far", ["system:nodes"], ["10.0.0.1"], ["10.0.0.2"], False),
    "no address": ("system:node:far", ["system:nodes"], [], ["10.0.0.1"], False),
    "the same in another notation": (
        "system:node:far",
        ["system:nodes"],
        ["fd00:0::1"],
        ["fd00::1"],
        True,
    ),
    "another node": ("system:node:near", ["system:nodes"], ["10.0.0.1"], ["10.0.0.1"], False),
    "without the group of nodes": ("system:node:far", [], ["10.0.0.1"], ["10.0.0.1"], False),
}


@pytest.mark.parametrize(
    ("user", "groups", "hosts", "addresses", "covers"), COVERS.values(), ids=COVERS
)
def test_a_certificate_covers_addresses(
    user: str, groups: Sequence[str], hosts: Sequence[str], addresses: Sequence[str], covers: bool
) -> None:
    leaf = certificates.issue(CA, user=user, groups=groups, hosts=hosts, uses=[SERVER]).certificate
    assert key_pairs.covers(leaf, node="far", addresses=addresses) is covers


@pytest.mark.parametrize(
    ("jitter", "hours"),
    [
        pytest.param(0.0, 7.0, id="after 70 % at the earliest"),
        pytest.param(0.5, 8.0, id="after 80 % on average"),
        pytest.param(1.0, 9.0, id="after 90 % at the latest"),
    ],
)
def test_a_certificate_is_renewed(jitter: float, hours: float) -> None:
    leaf = certificates.issue(CA, begins=NOW, ends=NOW + timedelta(hours=10)).certificate
    assert key_pairs.renew_at(leaf, jitter) == NOW + timedelta(hours=hours)


def test_a_self_signed_certificate_contains_the_addresses_for_a_year() -> None:
    pair = key_pairs.self_signed(node="far", addresses=["10.0.0.1"], now=NOW)
    found = pair.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("10.0.0.1")]
    assert pair.leaf.not_valid_after_utc == NOW + timedelta(days=365)
    assert not key_pairs.is_node(pair.leaf, "far")


def test_the_repr_of_a_pair_hides_the_key() -> None:
    assert "PRIVATE" not in repr(_parsed(certificates.issue(CA)))


ONE, OTHER = certificates.issue(CA), certificates.issue(CA)

BROKEN: dict[str, tuple[str, str]] = {
    "no certificate": (ONE.key_pem, ONE.key_pem),
    "no key": (ONE.pem, ONE.pem),
    "a key of another certificate": (ONE.pem, OTHER.key_pem),
    "nothing": ("", ""),
    "half a certificate": (ONE.pem[:200], ONE.key_pem),
}


@pytest.mark.parametrize(("chain", "key"), BROKEN.values(), ids=BROKEN)
def test_an_invalid_pair_is_rejected(chain: str, key: str) -> None:
    # The messages are those of several libraries.
    with pytest.raises(ValueError):  # noqa: PT011
        key_pairs.parse(chain.encode(), key.encode())


def test_a_chain_is_kept_complete() -> None:
    intermediate = certificates.authority("below", of=CA)
    leaf = certificates.issue(intermediate)
    pair = key_pairs.parse((leaf.pem + intermediate.pem).encode(), leaf.key_pem.encode())
    assert (pair.chain, pair.leaf) == (leaf.pem + intermediate.pem, leaf.certificate)


# --- the store --------------------------------------------------------------------------------


def test_a_written_pair_is_read_back(tmp_path: Path) -> None:
    store = key_pairs.CertificateStore(tmp_path / "new" / "directory", "kubelet-server")
    assert store.read() is None
    store.write(_parsed(ONE), now=NOW)
    found = store.read()
    assert found is not None
    assert (found.leaf, found.key) == (ONE.certificate, _parsed(ONE).key)


def test_file_names_and_modes_are_those_of_a_kubelet(tmp_path: Path) -> None:
    store = key_pairs.CertificateStore(tmp_path, "kubelet-client")
    store.write(_parsed(ONE), now=NOW)
    store.write(_parsed(OTHER), now=NOW + timedelta(seconds=1))
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "kubelet-client-2026-03-04-05-06-07.pem",
        "kubelet-client-2026-03-04-05-06-08.pem",
        "kubelet-client-current.pem",
    ]
    assert store.current.readlink() == tmp_path / "kubelet-client-2026-03-04-05-06-08.pem"
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_leftover_temporary_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "kubelet-client-updated.pem").symlink_to("nowhere")
    store = key_pairs.CertificateStore(tmp_path, "kubelet-client")
    store.write(_parsed(ONE), now=NOW)
    assert store.read() is not None


def test_a_file_that_farlet_did_not_write_is_not_replaced(tmp_path: Path) -> None:
    store = key_pairs.CertificateStore(tmp_path, "kubelet-client")
    store.current.write_text("of another program")
    with pytest.raises(FileExistsError, match="is not a symbolic link"):
        store.write(_parsed(ONE), now=NOW)
    assert store.current.read_text() == "of another program"
