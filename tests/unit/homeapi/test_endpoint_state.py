"""What an administrator can do if the Service of the home API server cannot be read."""

from __future__ import annotations

import pytest

from farlet import errors
from farlet.homeapi import endpoint_state

FLAGS = (
    "or set --home-api-server-host and --home-api-server-port (spec.homeAPIServer of a VirtualNode)"
)


def denied(system: str) -> errors.Forbidden:
    message = (
        f'services "home-api" is forbidden: User "system:serviceaccount:{system}:farlet" cannot '
        f'get resource "services" in API group "" in the namespace "{system}"'
    )
    return errors.Forbidden(
        cluster="foreign", request="GET", code=403, status_reason="Forbidden", message=message
    )


@pytest.mark.parametrize(
    ("system", "advice"),
    [
        pytest.param("farlet-far", "farlet connect --home-context HOME", id="connect"),
        pytest.param("farlet", "apply -f manifests/foreign/farlet-namespace.yaml", id="by hand"),
    ],
)
def test_a_missing_permission_is_granted_as_the_node_was_made(system: str, advice: str) -> None:
    refused = endpoint_state.not_synced(denied(system))
    assert advice in refused.message
    assert refused.message.endswith(FLAGS)
