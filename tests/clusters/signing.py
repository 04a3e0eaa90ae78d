"""Client certificates that a cluster signs itself, where its authority's key is not ours."""

import base64
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from clusters import pki


class _Cluster(Protocol):
    def apply(self, *objects: Mapping[str, Any]) -> None: ...
    def kubectl(self, *arguments: str, content: str | None = None) -> str: ...


def requested(cluster: _Cluster, stem: Path, *, user: str, groups: list[str]) -> pki.Pair:
    """A certificate by way of a CertificateSigningRequest, approved by the administrator."""
    pair = pki.Pair(stem.parent / f"{stem.name}.crt", stem.parent / f"{stem.name}.key")
    request = pki.request(pki.private_key(pair.key), user=user, groups=groups)
    name = f"farlet-test-{secrets.token_hex(4)}"
    kubelet = "-kubelet" if "system:nodes" in groups else ""
    cluster.apply(
        {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": {
                "request": base64.b64encode(request).decode(),
                "signerName": f"kubernetes.io/kube-apiserver-client{kubelet}",
                "usages": ["digital signature", "client auth"],
            },
        }
    )
    cluster.kubectl("certificate", "approve", name)
    cluster.kubectl("wait", f"csr/{name}", "--for=jsonpath={.status.certificate}", "--timeout=30s")
    answer = cluster.kubectl("get", "csr", name, "-o", "jsonpath={.status.certificate}")
    pair.certificate.write_bytes(base64.b64decode(answer))
    return pair
