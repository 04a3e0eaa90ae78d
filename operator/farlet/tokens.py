"""Home tokens for mirrors: the TokenRequest and what its answer means.

A token is bound to the home pod and dies with it. Its value goes from the answer into the
mirror's Secret and nowhere else.
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime

import orjson

from farlet import clusters
from farlet.access import Claim, Token
from farlet.vocabulary import JSON, Pod


async def request(home: clusters.Cluster, pod: Pod, claim: Claim, *, now: float) -> Token:
    """One TokenRequest for the pod's ServiceAccount, bound to the pod.

    `audiences` stands only where the volume names one: NodeRestriction compares literally.
    Raises what `Cluster.call` raises.
    """
    metadata = pod["metadata"]
    account = pod.get("spec", {}).get("serviceAccountName") or "default"
    spec: JSON = {
        "expirationSeconds": claim.expiration_seconds,
        "boundObjectRef": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }
    if claim.audience is not None:
        spec["audiences"] = [claim.audience]
    answer = await home.call(
        "POST",
        f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token",
        body={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec},
    )
    status = answer["status"]
    value: str = status["token"]
    expires = datetime.fromisoformat(status["expirationTimestamp"]).timestamp()
    life = expires - (_issued(value) or now)
    if life <= 0:
        life = float(claim.expiration_seconds)
    # Both times by our clock: a server whose clock is off does not make us late.
    return Token(value=value, issued=float(int(now)), expires=float(int(now + life)))


def _issued(token: str) -> float | None:
    """`iat` of a JSON Web Token, by the server's clock; `None` for a token of another kind."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(payload["iat"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        return None
