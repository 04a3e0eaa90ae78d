"""The serving certificate: asked for, waited for, renewed, and what is served meanwhile."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from farlet import errors
from farlet.kubelet import certificates as keepers
from farlet.kubelet import clientca, pairs, serving, signing
from unit import certificates, faketime
from unit.certificates import SERVER
from unit.identity import home
from unit.identity.home import CSRS, Home

CA = certificates.authority()
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class _Scene:
    """A node that keeps its serving certificate, and everybody around it."""

    def __init__(self, folder: Path | None, *, jitter: float = 0.5) -> None:
        self.home = Home()
        self.addresses = ["10.0.0.1"]
        self.tls = serving.ServingTLS(clientca.ClientCA(self.home.cluster, file=None))
        self.folder = pairs.Folder(folder, keepers.SERVER) if folder else None
        self.keeper = keepers.ServingCertificate(
            self.home.cluster,
            self.tls,
            node="far",
            addresses=lambda: self.addresses,
            folder=self.folder,
            now=self.now,
            jitter=lambda: jitter,
        )
        self._loop = asyncio.get_running_loop()

    def now(self) -> datetime:
        return START + timedelta(seconds=self._loop.time())

    @property
    def shown(self) -> Any:
        """The certificate that callers would see."""
        assert self.tls._pair is not None
        return self.tls._pair.leaf

    def signed(self) -> bool:
        return bool(self.shown.issuer == CA.certificate.subject)

    def grant(self, name: str, *, life: timedelta = DAY) -> None:
        self.home.grant(name, CA, now=self.now(), life=life)


Story = Callable[[_Scene], Awaitable[None]]


def _play(story: Story, folder: Path | None = None) -> list[Any]:
    """Run the keeper beside the story, in time that jumps; what was logged."""

    async def main() -> None:
        scene = _Scene(folder)
        scene.keeper.prepare()
        running = asyncio.create_task(scene.keeper.run())
        try:
            await asyncio.sleep(1.0)
            await story(scene)
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.wait([running])

    with structlog.testing.capture_logs() as logs:
        faketime.run(main())
    return logs


def test_it_asks_as_a_kubelet_does() -> None:
    async def story(scene: _Scene) -> None:
        (csr,) = scene.home.requests
        spec = csr["spec"]
        assert (spec["signerName"], spec["usages"]) == (
            "kubernetes.io/kubelet-serving",
            ["digital signature", "server auth"],
        )
        assert base64.b64decode(spec["request"]).startswith(b"-----BEGIN CERTIFICATE REQUEST")

    _play(story)


def test_what_is_granted_is_served_at_once() -> None:
    async def story(scene: _Scene) -> None:
        assert not scene.signed()
        scene.grant("csr-0")
        await asyncio.sleep(0.1)
        assert scene.signed()
        assert pairs.covers(scene.shown, node="far", addresses=["10.0.0.1"])

    _play(story)


def test_an_approval_after_hours_is_still_taken() -> None:
    async def story(scene: _Scene) -> None:
        await asyncio.sleep(20 * 3600)
        scene.grant("csr-0")
        await asyncio.sleep(1.0)
        assert scene.signed()
        assert len(scene.home.requests) == 1

    _play(story)


def test_approved_is_not_yet_signed() -> None:
    async def story(scene: _Scene) -> None:
        scene.home.decide("csr-0", "Approved")
        await asyncio.sleep(30.0)
        assert not scene.signed()
        scene.home.sign("csr-0", CA, now=scene.now(), life=DAY)
        await asyncio.sleep(0.1)
        assert scene.signed()

    _play(story)


def test_who_waits_is_told_once_what_it_means_and_what_to_do() -> None:
    async def story(scene: _Scene) -> None:
        await asyncio.sleep(3600.0)

    (told,) = [line for line in _play(story) if line["log_level"] == "warning"]
    assert told["event"] == "serving certificate is self-signed"
    assert "--kubelet-certificate-authority" in told["consequence"]
    assert told["cure"].startswith("kubectl certificate approve csr-0, or give --tls-cert-file")


def test_nobody_is_told_when_an_approver_answers_at_once() -> None:
    async def story(scene: _Scene) -> None:
        scene.grant("csr-0")
        await asyncio.sleep(3600.0)

    assert [line for line in _play(story) if line["log_level"] == "warning"] == []


def test_it_is_renewed_in_time_and_served_until_then() -> None:
    async def story(scene: _Scene) -> None:
        scene.grant("csr-0")
        await asyncio.sleep(1.0)
        first = scene.shown
        await asyncio.sleep(0.79 * DAY.total_seconds())
        assert len(scene.home.requests) == 1
        await asyncio.sleep(0.02 * DAY.total_seconds())
        assert len(scene.home.requests) == 2
        assert scene.shown == first
        scene.grant("csr-1")
        await asyncio.sleep(1.0)
        assert scene.signed()
        assert scene.shown != first

    _play(story)


def test_another_key_is_used_each_time() -> None:
    async def story(scene: _Scene) -> None:
        for name in ("csr-0", "csr-1"):
            scene.grant(name, life=timedelta(hours=1))
            await asyncio.sleep(3600.0)
        one, other, *_ = scene.home.requests
        assert one["spec"]["request"] != other["spec"]["request"]

    _play(story)


# --- addresses --------------------------------------------------------------------------------


def test_another_address_needs_another_certificate() -> None:
    async def story(scene: _Scene) -> None:
        scene.grant("csr-0")
        await asyncio.sleep(1.0)
        scene.addresses = ["10.0.0.2"]
        await asyncio.sleep(keepers.LOOK_SECONDS + 1)
        assert scene.signed()
        scene.grant("csr-1")
        await asyncio.sleep(1.0)
        assert pairs.covers(scene.shown, node="far", addresses=["10.0.0.2"])

    _play(story)


def test_a_request_for_an_address_that_was_given_up_is_not_waited_for() -> None:
    async def story(scene: _Scene) -> None:
        scene.addresses = ["10.0.0.2"]
        await asyncio.sleep(keepers.LOOK_SECONDS + 1)
        scene.grant("csr-0")
        await asyncio.sleep(keepers.LOOK_SECONDS + 1)
        assert not scene.signed()
        scene.grant("csr-1")
        await asyncio.sleep(1.0)
        assert pairs.covers(scene.shown, node="far", addresses=["10.0.0.2"])

    _play(story)


def test_an_address_less_needs_no_other_certificate() -> None:
    async def story(scene: _Scene) -> None:
        scene.addresses = ["10.0.0.1", "10.0.0.9"]
        await asyncio.sleep(keepers.LOOK_SECONDS + 1)
        scene.grant("csr-1")
        await asyncio.sleep(1.0)
        scene.addresses = ["10.0.0.9"]
        await asyncio.sleep(100.0)
        assert len(scene.home.requests) == 2

    _play(story)


def test_nothing_is_asked_for_while_there_is_no_address() -> None:
    async def main() -> None:
        scene = _Scene(None)
        scene.addresses = []
        scene.keeper.prepare()
        running = asyncio.create_task(scene.keeper.run())
        await asyncio.sleep(60.0)
        assert scene.home.requests == []
        scene.addresses = ["10.0.0.1"]
        await asyncio.sleep(keepers.LOOK_SECONDS + 1)
        assert len(scene.home.requests) == 1
        running.cancel()
        await asyncio.wait([running])

    faketime.run(main())


# --- what goes wrong --------------------------------------------------------------------------


def _denied(scene: _Scene) -> None:
    scene.home.decide("csr-0", "Denied")


def _failed(scene: _Scene) -> None:
    scene.home.decide("csr-0", "Failed")


def _removed(scene: _Scene) -> None:
    scene.home.remove(f"{CSRS}/csr-0")


def _for_another(scene: _Scene) -> None:
    """A signer that does as it likes."""
    path = f"{CSRS}/csr-0"
    pem = certificates.issue(CA, user="system:node:near", uses=[SERVER]).pem
    status = {
        "conditions": [{"type": "Approved"}],
        "certificate": base64.b64encode(pem.encode()).decode(),
    }
    scene.home.put(path, {**scene.home.objects[path], "status": status})


def _garbage(scene: _Scene) -> None:
    path = f"{CSRS}/csr-0"
    status = {"conditions": [{"type": "Approved"}], "certificate": "%%%"}
    scene.home.put(path, {**scene.home.objects[path], "status": status})


def _nearly_over(scene: _Scene) -> None:
    scene.grant("csr-0", life=timedelta(minutes=6))


@pytest.mark.parametrize(
    "happens",
    [
        pytest.param(_denied, id="is denied"),
        pytest.param(_failed, id="fails"),
        pytest.param(_removed, id="is removed"),
        pytest.param(_for_another, id="brings another's certificate"),
        pytest.param(_garbage, id="brings no certificate"),
        pytest.param(_nearly_over, id="brings one that is nearly over"),
    ],
)
def test_a_request_is_made_again_after_a_while_when_it(
    happens: Callable[[_Scene], None],
) -> None:
    async def story(scene: _Scene) -> None:
        happens(scene)
        await asyncio.sleep(signing.DENIED_SECONDS - 60.0)
        assert not scene.signed()
        assert scene.home.count("POST", CSRS) == 1
        await asyncio.sleep(120.0)
        assert scene.home.count("POST", CSRS) == 2
        scene.grant(scene.home.requests[-1]["metadata"]["name"])
        await asyncio.sleep(1.0)
        assert scene.signed()

    warnings = [line for line in _play(story) if line["log_level"] == "warning"]
    assert any(line["event"] == "certificate was not granted" for line in warnings)


def test_a_request_that_was_removed_during_an_outage_is_made_again() -> None:
    async def story(scene: _Scene) -> None:
        scene.home.fail(home.unreachable)
        await asyncio.sleep(60.0)
        scene.home.objects.clear()
        scene.home.fail(None)
        await asyncio.sleep(signing.DENIED_SECONDS + 60.0)
        assert scene.home.count("POST", CSRS) == 2

    _play(story)


def test_an_approval_during_an_outage_is_seen_after_it() -> None:
    async def story(scene: _Scene) -> None:
        scene.home.fail(home.unreachable)
        await asyncio.sleep(60.0)
        scene.grant("csr-0")
        scene.home.fail(None)
        await asyncio.sleep(signing.LOST_SECONDS + 1)
        assert scene.signed()
        assert scene.home.count("POST", CSRS) == 1

    _play(story)


@pytest.mark.parametrize(
    "failing",
    [
        pytest.param(home.unreachable, id="does not answer"),
        pytest.param(lambda: home.refusal(403), id="does not let farlet ask"),
    ],
)
def test_it_asks_on_where_home(failing: Callable[[], errors.FarletError]) -> None:
    async def main() -> None:
        scene = _Scene(None)
        scene.home.fail(failing)
        scene.keeper.prepare()
        running = asyncio.create_task(scene.keeper.run())
        await asyncio.sleep(3600.0)
        assert 20 <= scene.home.count("POST", CSRS) <= 60
        scene.home.fail(None)
        await asyncio.sleep(signing.AGAIN_SECONDS[1])
        scene.grant("csr-0")
        await asyncio.sleep(1.0)
        assert scene.signed()
        running.cancel()
        await asyncio.wait([running])

    faketime.run(main())


# --- the folder -------------------------------------------------------------------------------


def _kept(folder: Path, *, ends: datetime, hosts: tuple[str, ...] = ("10.0.0.1",)) -> None:
    pair = certificates.issue(
        CA,
        user="system:node:far",
        groups=["system:nodes"],
        hosts=hosts,
        uses=[SERVER],
        begins=START - DAY,
        ends=ends,
    )
    kept = pairs.of(pair.pem.encode(), pair.key_pem.encode())
    pairs.Folder(folder, keepers.SERVER).store(kept, now=START)


def test_a_restart_uses_what_the_folder_has(tmp_path: Path) -> None:
    async def first(scene: _Scene) -> None:
        scene.grant("csr-0", life=30 * DAY)
        await asyncio.sleep(1.0)

    async def second(scene: _Scene) -> None:
        await asyncio.sleep(60.0)
        assert scene.signed()
        assert scene.home.requests == []

    _play(first, tmp_path)
    _play(second, tmp_path)


KEPT: dict[str, tuple[datetime, tuple[str, ...], bool, int]] = {
    "that is good is served": (START + DAY, ("10.0.0.1",), True, 0),
    "that is to be renewed is served meanwhile": (START + DAY / 100, ("10.0.0.1",), True, 1),
    "that is over is not served": (START - DAY / 2, ("10.0.0.1",), False, 1),
    "of another address is not served": (START + DAY, ("10.0.0.7",), False, 1),
}


@pytest.mark.parametrize(("ends", "hosts", "signed", "requests"), KEPT.values(), ids=KEPT)
def test_a_kept_one(
    ends: datetime, hosts: tuple[str, ...], signed: bool, requests: int, tmp_path: Path
) -> None:
    _kept(tmp_path, ends=ends, hosts=hosts)

    async def story(scene: _Scene) -> None:
        assert scene.signed() is signed
        assert len(scene.home.requests) == requests

    _play(story, tmp_path)


def test_a_broken_file_in_the_folder_is_told_and_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "kubelet-server-current.pem").write_text("broken")

    async def story(scene: _Scene) -> None:
        scene.grant("csr-0")
        await asyncio.sleep(1.0)
        assert scene.signed()

    told = [line["event"] for line in _play(story, tmp_path) if line["log_level"] == "warning"]
    assert told == ["kept certificate was not used", "certificate was not stored"]


# --- files of somebody else -------------------------------------------------------------------


def _files(folder: Path, pair: certificates.Pair) -> tuple[Path, Path]:
    return pair.write(folder, "serving")


def test_files_are_followed(tmp_path: Path) -> None:
    first, second = (certificates.issue(CA, uses=[SERVER]) for _ in range(2))

    async def main() -> None:
        certificate, key = _files(tmp_path, first)
        tls = serving.ServingTLS(clientca.ClientCA(Home().cluster, file=None))
        keeper = keepers.FileCertificate(tls, certificate=certificate, key=key)
        keeper.prepare()
        running = asyncio.create_task(keeper.run())
        shown = []
        for content in (None, second.pem, None):
            if content:
                certificate.write_text(content)
            else:
                shown.append(tls._pair and tls._pair.leaf)
            await asyncio.sleep(keepers.LOOK_SECONDS + 1)
        key.write_text(second.key_pem)
        await asyncio.sleep(keepers.LOOK_SECONDS + 1)
        shown.append(tls._pair and tls._pair.leaf)
        assert shown == [first.certificate, first.certificate, second.certificate]
        running.cancel()
        await asyncio.wait([running])

    faketime.run(main())


def test_files_that_cannot_be_used_refuse_the_start(tmp_path: Path) -> None:
    certificate, _ = _files(tmp_path, certificates.issue(CA))
    tls = serving.ServingTLS(clientca.ClientCA(Home().cluster, file=None))
    keeper = keepers.FileCertificate(tls, certificate=certificate, key=certificate)
    with pytest.raises(errors.StartError, match=r"--tls-cert-file .*serving\.crt"):
        keeper.prepare()
