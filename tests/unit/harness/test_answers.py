"""Whether an API server of a test answers."""

import gc
import select
import socket
import struct
import warnings
from typing import Any

import pytest

from clusters import controlplane, kubeconfig
from unit import certificates


def test_a_connection_that_is_reset_before_its_handshake_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect = socket.create_connection

    def reset(address: Any, *args: Any, **how: Any) -> socket.socket:
        client = connect(address, *args, **how)
        accepted, _ = server.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
        select.select([client], [], [])
        return client

    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(socket, "create_connection", reset)
        address = f"https://127.0.0.1:{server.getsockname()[1]}"
        ca = certificates.authority().pem.encode()
        access = kubeconfig.Access(address, ca, None, None, None)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ResourceWarning)
            assert not controlplane.answers(access, "/readyz")
            gc.collect()
    assert [str(one.message) for one in caught if "SSLSocket" in str(one.message)] == []
