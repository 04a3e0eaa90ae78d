"""Which kubeconfigs the manager uses, and what it writes."""

from __future__ import annotations

import base64
import json
import textwrap
from typing import Any

import pytest

from farlet.certs import key_pairs
from farlet.manager import kubeconfigs
from unit import certificates

JSON = dict[str, Any]
CA = certificates.authority()
CLIENT = certificates.issue(CA, user="farlet")
SECRET = "a-very-secret-value"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def config(cluster: Any = None, user: Any = None, **changed: Any) -> bytes:
    content: JSON = {
        "clusters": [
            {
                "name": "c",
                "cluster": {
                    "server": "https://foreign.example:6443/",
                    "certificate-authority-data": b64(CA.pem),
                    **(cluster or {}),
                },
            }
        ],
        "users": [{"name": "u", "user": {"token": SECRET} if user is None else user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
        **changed,
    }
    return json.dumps(content).encode()


def test_the_current_context_is_read() -> None:
    found = kubeconfigs.parse(config({"tls-server-name": "api", "proxy-url": "http://proxy:3128"}))
    assert found == kubeconfigs.Kubeconfig(
        server="https://foreign.example:6443",
        authority=CA.pem,
        token=SECRET,
        server_name="api",
        proxy="http://proxy:3128",
    )


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(kubeconfigs.Kubeconfig("https://a", authority=CA.pem, token="t"), id="token"),
        pytest.param(
            kubeconfigs.Kubeconfig(
                "https://a",
                token="t",
                insecure=True,
                server_name="api",
                proxy="http://proxy",
                namespace="shop",
            ),
            id="every other field",
        ),
    ],
)
def test_what_is_written_is_read_again_with(found: kubeconfigs.Kubeconfig) -> None:
    assert kubeconfigs.parse(found.text().encode()) == found


@pytest.mark.parametrize(
    "server",
    [
        "https://203.0.113.7:6443",
        "https://[2001:db8::1]:6443",
        "https://foreign.example/k8s/clusters/c-1",
        "https://foreign_1.example.",
    ],
)
def test_a_server_is_accepted(server: str) -> None:
    assert kubeconfigs.parse(config({"server": server})).server == server


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b64(f"# Z\u00fcrich\n{CA.pem}"), id="a comment in UTF-8"),
        pytest.param("\n".join(textwrap.wrap(b64(CA.pem), 76)) + "\n", id="base64 in lines"),
    ],
)
def test_a_ca_bundle_is_accepted_with(data: str) -> None:
    found = kubeconfigs.parse(config({"certificate-authority-data": data}))
    assert found.authority is not None
    assert found.authority.endswith(CA.pem)
    assert kubeconfigs.parse(found.text().encode()) == found


def test_a_written_certificate_is_read_again() -> None:
    pair = key_pairs.parse(CLIENT.pem.encode(), CLIENT.key_pem.encode())
    found = kubeconfigs.parse(kubeconfigs.Kubeconfig("https://a", pair=pair).text().encode())
    assert found.pair is not None
    assert (found.pair.chain, found.pair.key) == (pair.chain, pair.key)


def test_fields_of_other_contexts_do_not_matter() -> None:
    users = [
        {"name": "u", "user": {"token": SECRET}},
        {"name": "other", "user": {"exec": {"command": "aws"}}},
    ]
    assert kubeconfigs.parse(config(users=users)).token == SECRET


EXEC = {"exec": {"command": "/bin/sh", "args": [SECRET]}}
PAIR = {"client-certificate-data": b64(CLIENT.pem), "client-key-data": b64(CLIENT.key_pem)}
REFUSED: dict[str, tuple[bytes, str]] = {
    "an exec plugin": (config(user=EXEC), "an exec plugin"),
    "an exec plugin beside a token": (config(user={"token": SECRET, **EXEC}), "an exec plugin"),
    "an auth provider": (config(user={"auth-provider": {"name": "gcp"}}), "an auth provider"),
    "the path of a token": (config(user={"tokenFile": f"/{SECRET}"}), "the path of a token file"),
    "the path of a certificate": (
        config(user={"client-certificate": f"/{SECRET}", "client-key": "/k"}),
        "the path of a certificate",
    ),
    "the path of a key": (config(user={**PAIR, "client-key": "/k"}), "the path of a key"),
    "the path of a CA": (config({"certificate-authority": f"/{SECRET}"}), "the path of a CA"),
    "no credentials": (config(user={}), "neither a token nor a client certificate"),
    "a certificate without its key": (
        config(user={"client-certificate-data": b64(CLIENT.pem)}),
        "without its key",
    ),
    "a certificate with another key": (
        config(user={**PAIR, "client-key-data": b64(CA.key_pem)}),
        "are not a pair",
    ),
    "a CA without a certificate": (
        config({"certificate-authority-data": b64("x")}),
        "contains no certificate",
    ),
    "a server without TLS": (config({"server": "http://foreign"}), "not an https:// URL"),
    "no server": (config({"server": None}), "not an https:// URL"),
    **{
        f"a server with {what}": (config({"server": server}), "not an https:// URL with a host")
        for what, server in {
            "a port that is too large": "https://h:99999",
            "a port that is not a number": "https://h:port",
            "the port 0": "https://h:0",
            "no host": "https://:6443",
            "an address that is not valid": "https://[::1",
            "a space": "https://a b",
            "a host that is not ASCII": "https://f\u00fcr.example",
            "a path that is not ASCII": "https://h/\u00fc",
            "a user": "https://user:pass@h",
            "a query": "https://h?a=b",
            "a fragment": "https://h#a",
        }.items()
    },
    "a proxy with a wrong port": (config({"proxy-url": "http://h:99999"}), "its proxy-url"),
    "a proxy of another kind": (config({"proxy-url": "socks5://h:1"}), "its proxy-url"),
    "a server name with a space": (config({"tls-server-name": "a b"}), "its tls-server-name"),
    "a token that is not ASCII": (config(user={"token": f"{SECRET}\u00fc"}), "its token contains"),
    "data that is not base64": (config({"certificate-authority-data": "%"}), "not valid base64"),
    "a token of two lines": (
        config(user={"token": f"{SECRET}\nx"}),
        "its token is not a printable string",
    ),
    "a token that is a number": (config(user={"token": 1}), "its token is not a printable string"),
    "no current context": (config(**{"current-context": None}), "no current-context"),
    "a context that is missing": (config(**{"current-context": "y"}), "no context y"),
    "two users of this name": (
        config(users=[{"name": "u", "user": {"token": SECRET}}] * 2),
        "no user u, or more than one",
    ),
    "nothing": (b"", "empty or not a kubeconfig"),
    "no YAML": (b"{", "not valid YAML"),
    "aliases": (b"a: &a [x]\nb: [*a, *a]\n", "contains aliases"),
    "a merged alias": (b"a: &a {x: y}\nb:\n  <<: [*a, *a]\n", "contains aliases"),
    "too many levels": (b"[" * 2_000, "not valid YAML"),
    "an invalid boolean": (f"a: !!bool {SECRET}".encode(), "not valid YAML"),
    "an invalid integer": (b"a: !!int ''", "not valid YAML"),
    "an invalid time": (f"a: !!timestamp {SECRET}".encode(), "a YAML tag"),
    "a number with colons and a tag": (b"a: !!int 1" + b":1" * 60_000, "not valid YAML"),
    "a number that is too long": (b"a: 1" + b":1" * 60_000, "a number of more than"),
    "too many bytes": (b"#" * (kubeconfigs.MAX_BYTES + 1), "larger than"),
}


@pytest.mark.parametrize(("content", "words"), REFUSED.values(), ids=REFUSED)
def test_a_kubeconfig_is_refused_with(content: bytes, words: str) -> None:
    with pytest.raises(kubeconfigs.Unusable) as caught:
        kubeconfigs.parse(content)
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


def test_secrets_do_not_appear_in_its_representation() -> None:
    found = kubeconfigs.parse(config(user={"token": SECRET, **PAIR}))
    assert SECRET not in repr(found)
    assert "PRIVATE KEY" not in repr(found)
