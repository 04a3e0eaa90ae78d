"""Malicious peers of both ends of a gateway's link, and a malicious neighbour of the gateway.

The programs run in pods and print what the tests assert.
"""

import json

import asyncssh

from clusters import farletimage, gateway, kwok, rest

POD = "taken-over"

SAY = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10) as peer:
    peer.sendall(sys.argv[3].encode())
    while received := peer.recv(65536):
        sys.stdout.buffer.write(received)
        sys.stdout.flush()
"""
"""Send text to an address, and print the response."""

_TAKEN_OVER = """
import asyncio, asyncssh, json, socket, sys

async def main():
    server = socket.create_server(("127.0.0.1", 8022))
    server.setblocking(False)
    sock, _ = await asyncio.get_running_loop().sock_accept(server)
    farlet = await asyncssh.connect(
        "farlet", sock=sock, config=None, known_hosts=None, agent_path=None, username="gateway",
        client_keys=["/etc/farlet/gateway/private-key"],
    )
    requests = {
        f"{host}:{port}": farlet.open_connection(host, port)
        for host, port in json.loads(sys.argv[1])
    }
    requests |= {
        "a shell": farlet.create_process(),
        "a command": farlet.create_process("id"),
        "files": farlet.start_sftp_client(),
        "a socket file": farlet.open_unix_connection("/var/run/docker.sock"),
        "a listener": farlet.start_server(lambda *_: None, "", 0),
        "a network device": farlet.open_tun(),
    }
    got = {}
    for what, request in requests.items():
        try:
            await asyncio.wait_for(request, 10)
            got[what] = "granted"
        except Exception as error:
            got[what] = type(error).__name__
    reader, writer = await farlet.open_connection("home-api", 443)
    writer.write(b"GET / HTTP/1.1\\r\\n\\r\\n")
    got["home"] = (await reader.read()).decode()
    print(json.dumps(got))

asyncio.run(main())
"""
"""Act as a gateway that has its key, request what no gateway requests, and print the results."""


def pod(*, addresses: list[tuple[str, int]]) -> rest.Object:
    """A pod that only farlet takes for a gateway: it is never ready."""
    container = {
        "name": "gateway",
        "image": farletimage.NAME,
        "command": ["python3", "-c", _TAKEN_OVER, json.dumps(addresses)],
        "env": [{"name": "LOGNAME", "value": "gateway"}],
        "readinessProbe": {"tcpSocket": {"port": 1}},
        "volumeMounts": [{"name": "keys", "mountPath": "/etc/farlet/gateway"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "metadata": {"name": POD, "labels": dict([gateway.SELECTED.split("=")])},
        "spec": {
            "nodeSelector": {kwok.LABEL: "real"},
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "keys", "secret": {"secretName": gateway.NAME}}],
        },
    }


class PermissiveServer(asyncssh.SSHServer):
    """An SSH server with farlet's key that accepts every client."""

    def begin_auth(self, username: str) -> bool:
        """Require authentication."""
        return True

    def public_key_auth_supported(self) -> bool:
        """Support public keys."""
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Accept any key."""
        return True
