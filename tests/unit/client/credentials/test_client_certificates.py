"""Client certificates: replaced while the login is in use, and which of two pairs is used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from farlet import errors
from farlet.client import cluster as clusters
from farlet.client import credentials
from farlet.client.credential_sources import ClusterSource
from farlet.telemetry.metrics import Metrics
from unit import certificates
from unit.certificates import HOUR
from unit.client.credentials.scene import PATH, Clock
from unit.reconcile import apiserver
from unit.reconcile.apiserver import Front


class _Scene:
    """An API server that requires certificates of one CA, and a kubeconfig that names files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = certificates.authority()
        server = certificates.issue(self.ca, hosts=["127.0.0.1"], uses=[certificates.SERVER])
        (folder / "ca.crt").write_text(self.ca.pem)
        self.tls = certificates.server_context(server, folder, clients=self.ca)
        self.rotated = folder / "rotated.pem"

    def client(
        self, user: str, *, begins: timedelta = -HOUR, ends: timedelta = HOUR
    ) -> certificates.Pair:
        now = datetime.now(UTC)
        return certificates.issue(self.ca, user=user, begins=now + begins, ends=now + ends)

    def use(self, pair: certificates.Pair) -> None:
        pair.write(self.folder, "client")

    def rotate(self, pair: certificates.Pair) -> None:
        self.rotated.write_text(pair.pem + pair.key_pem)

    def connection(self, front: Front) -> clusters.Cluster:
        user = {"client-certificate": "client.crt", "client-key": "client.key"}
        path = apiserver.kubeconfig(
            self.folder / "kubeconfig",
            front.url,
            user=user,
            **{"certificate-authority": "ca.crt"},
        )
        source = ClusterSource(str(path), None, rotated=self.rotated)
        return clusters.Cluster("home", source, metrics=Metrics().client("home"))


# --- exchanged --------------------------------------------------------------------------------


async def test_a_client_certificate_is_rotated(tmp_path: Path, clock: Clock) -> None:
    scene = _Scene(tmp_path)
    scene.use(scene.client("first"))
    async with apiserver.listening(scene.tls) as front, scene.connection(front) as cluster:
        await cluster.call("GET", PATH)
        scene.use(scene.client("second"))
        clock.late += credentials.CHECK_SECONDS
        await cluster.call("GET", PATH)
        assert front.logins == ["first", "second"]


async def test_the_time_until_the_certificate_in_use_expires_is_known(
    tmp_path: Path, clock: Clock
) -> None:
    scene = _Scene(tmp_path)
    scene.use(scene.client("first"))
    async with apiserver.listening(scene.tls) as front, scene.connection(front) as cluster:
        await cluster.call("GET", PATH)
        assert cluster.credentials_remaining() == pytest.approx(HOUR.total_seconds(), abs=60)
        scene.use(scene.client("second", ends=3 * HOUR))
        clock.late += credentials.CHECK_SECONDS
        await cluster.call("GET", PATH)
        assert cluster.credentials_remaining() == pytest.approx(3 * HOUR.total_seconds(), abs=60)


async def test_a_certificate_whose_key_is_still_the_old_one_waits_for_it(
    tmp_path: Path, clock: Clock
) -> None:
    scene = _Scene(tmp_path)
    scene.use(scene.client("first"))
    async with apiserver.listening(scene.tls) as front, scene.connection(front) as cluster:
        second = scene.client("second")
        (tmp_path / "client.crt").write_text(second.pem)
        for _ in range(2):
            clock.late += credentials.CHECK_SECONDS
            await cluster.call("GET", PATH)
        (tmp_path / "client.key").write_text(second.key_pem)
        clock.late += credentials.CHECK_SECONDS
        await cluster.call("GET", PATH)
        assert front.logins == ["first", "first", "second"]


async def test_a_changed_ca_of_the_server_is_used(tmp_path: Path, clock: Clock) -> None:
    scene = _Scene(tmp_path)
    scene.use(scene.client("me"))
    (tmp_path / "ca.crt").write_text(certificates.authority("another").pem)
    async with apiserver.listening(scene.tls) as front, scene.connection(front) as cluster:
        with pytest.raises(errors.Unreachable, match="certificate is not signed by the CA"):
            await cluster.call("GET", PATH)
        (tmp_path / "ca.crt").write_text(scene.ca.pem)
        clock.late += credentials.CHECK_SECONDS
        await cluster.call("GET", PATH)
        assert front.logins == ["me"]


# --- the kubeconfig's pair or the rotated one -------------------------------------------------


ROTATED: dict[str, tuple[str, timedelta, timedelta, bool]] = {
    "issued later: it is used": ("system:node:far", -HOUR / 2, HOUR, True),
    "issued later, though it ends sooner: it is used": (
        "system:node:far",
        -HOUR / 2,
        HOUR / 3,
        True,
    ),
    "issued at the same time, and dated back by its signer: it is used": (
        "system:node:far",
        -HOUR - timedelta(minutes=5),
        HOUR,
        True,
    ),
    "issued before the kubeconfig's: the admin gave a newer one": (
        "system:node:far",
        -2 * HOUR,
        3 * HOUR,
        False,
    ),
    "already expired: not used": ("system:node:far", -HOUR / 2, -HOUR / 3, False),
    "of another node: it is not ours": ("system:node:near", -HOUR / 2, HOUR, False),
}


@pytest.mark.parametrize(("user", "begins", "ends", "used"), ROTATED.values(), ids=ROTATED)
async def test_a_rotated_pair(
    user: str, begins: timedelta, ends: timedelta, used: bool, tmp_path: Path
) -> None:
    scene = _Scene(tmp_path)
    scene.use(scene.client("system:node:far"))
    scene.rotate(scene.client(user, begins=begins, ends=ends))
    async with apiserver.listening(scene.tls) as front, scene.connection(front) as cluster:
        login = await cluster.login()
        assert login.certificate_file == str(scene.rotated if used else tmp_path / "client.crt")


async def test_a_pair_that_was_granted_meanwhile_is_used(tmp_path: Path, clock: Clock) -> None:
    scene = _Scene(tmp_path)
    scene.use(scene.client("system:node:far"))
    async with apiserver.listening(scene.tls) as front, scene.connection(front) as cluster:
        await cluster.call("GET", PATH)
        scene.rotate(scene.client("system:node:far", begins=-HOUR / 2))
        clock.late += credentials.CHECK_SECONDS
        await cluster.call("GET", PATH)
        assert (await cluster.login()).certificate_file == str(scene.rotated)
        assert len(front.peers) == 2
