"""Certificates with their keys: what fits together, what a node asks for, how they are kept."""

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


def _of(pair: Pair) -> key_pairs.KeyPair:
    return key_pairs.of(pair.pem.encode(), pair.key_pem.encode())


def test_a_request_is_what_signers_of_nodes_want() -> None:
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


def test_a_request_of_a_client_names_no_address() -> None:
    request = x509.load_pem_x509_csr(
        key_pairs.request(key_pairs.new_key(), node="far", addresses=[])
    )
    assert list(request.extensions) == []


COVERS: dict[str, tuple[str, Sequence[str], Sequence[str], Sequence[str], bool]] = {
    "the same": ("system:node:far", ["system:nodes"], ["10.0.0.1"], ["10.0.0.1"], True),
    "more than that": (
        "system:node:far",
        ["system:nodes"],
        ["10.0.0.1", "a.b"],
        ["10.0.0.1"],
        True,
    ),
    "another address": ("system:node:far", ["system:nodes"], ["10.0.0.1"], ["10.0.0.2"], False),
    "no address": ("system:node:far", ["system:nodes"], [], ["10.0.0.1"], False),
    "the same, long": ("system:node:far", ["system:nodes"], ["fd00:0::1"], ["fd00::1"], True),
    "another node": ("system:node:near", ["system:nodes"], ["10.0.0.1"], ["10.0.0.1"], False),
    "no node": ("system:node:far", [], ["10.0.0.1"], ["10.0.0.1"], False),
}


@pytest.mark.parametrize(
    ("user", "groups", "hosts", "wanted", "covers"), COVERS.values(), ids=COVERS
)
def test_a_certificate_of(
    user: str, groups: Sequence[str], hosts: Sequence[str], wanted: Sequence[str], covers: bool
) -> None:
    leaf = certificates.issue(CA, user=user, groups=groups, hosts=hosts, uses=[SERVER]).certificate
    assert key_pairs.covers(leaf, node="far", addresses=wanted) is covers


@pytest.mark.parametrize(
    ("jitter", "hours"),
    [
        pytest.param(0.0, 7.0, id="at 70 % at the earliest"),
        pytest.param(0.5, 8.0, id="at 80 % on average"),
        pytest.param(1.0, 9.0, id="at 90 % at the latest"),
    ],
)
def test_a_certificate_is_renewed(jitter: float, hours: float) -> None:
    leaf = certificates.issue(CA, begins=NOW, ends=NOW + timedelta(hours=10)).certificate
    assert key_pairs.due(leaf, jitter) == NOW + timedelta(hours=hours)


def test_one_that_nobody_signed_has_the_node_s_addresses_for_a_year() -> None:
    pair = key_pairs.self_signed(node="far", addresses=["10.0.0.1"], now=NOW)
    found = pair.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("10.0.0.1")]
    assert pair.leaf.not_valid_after_utc == NOW + timedelta(days=365)
    assert not key_pairs.is_node(pair.leaf, "far")


def test_a_pair_does_not_show_its_key() -> None:
    assert "PRIVATE" not in repr(_of(certificates.issue(CA)))


ONE, OTHER = certificates.issue(CA), certificates.issue(CA)

BROKEN: dict[str, tuple[str, str]] = {
    "no certificate": (ONE.key_pem, ONE.key_pem),
    "no key": (ONE.pem, ONE.pem),
    "another's key": (ONE.pem, OTHER.key_pem),
    "nothing": ("", ""),
    "half a certificate": (ONE.pem[:200], ONE.key_pem),
}


@pytest.mark.parametrize(("chain", "key"), BROKEN.values(), ids=BROKEN)
def test_a_pair_is_refused_that_is(chain: str, key: str) -> None:
    # In the words of several libraries.
    with pytest.raises(ValueError):  # noqa: PT011
        key_pairs.of(chain.encode(), key.encode())


def test_a_chain_stays_whole() -> None:
    below = certificates.authority("below", of=CA)
    leaf = certificates.issue(below)
    made = key_pairs.of((leaf.pem + below.pem).encode(), leaf.key_pem.encode())
    assert (made.chain, made.leaf) == (leaf.pem + below.pem, leaf.certificate)


# --- the folder -------------------------------------------------------------------------------


def test_what_is_stored_is_read_again(tmp_path: Path) -> None:
    folder = key_pairs.CertificateStore(tmp_path / "made" / "now", "kubelet-server")
    assert folder.read() is None
    folder.store(_of(ONE), now=NOW)
    found = folder.read()
    assert found is not None
    assert (found.leaf, found.key) == (ONE.certificate, _of(ONE).key)


def test_files_are_named_and_kept_as_a_kubelet_does(tmp_path: Path) -> None:
    folder = key_pairs.CertificateStore(tmp_path, "kubelet-client")
    folder.store(_of(ONE), now=NOW)
    folder.store(_of(OTHER), now=NOW + timedelta(seconds=1))
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "kubelet-client-2026-03-04-05-06-07.pem",
        "kubelet-client-2026-03-04-05-06-08.pem",
        "kubelet-client-current.pem",
    ]
    assert folder.current.readlink() == tmp_path / "kubelet-client-2026-03-04-05-06-08.pem"
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_link_that_was_left_half_way_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "kubelet-client-updated.pem").symlink_to("nowhere")
    folder = key_pairs.CertificateStore(tmp_path, "kubelet-client")
    folder.store(_of(ONE), now=NOW)
    assert folder.read() is not None


def test_a_file_that_farlet_did_not_make_is_not_overwritten(tmp_path: Path) -> None:
    folder = key_pairs.CertificateStore(tmp_path, "kubelet-client")
    folder.current.write_text("of somebody else")
    with pytest.raises(FileExistsError, match="is a file and no link"):
        folder.store(_of(ONE), now=NOW)
    assert folder.current.read_text() == "of somebody else"
