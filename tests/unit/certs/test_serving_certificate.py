"""The serving certificate: asked for, waited for, renewed, and asked for again at new addresses."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta

from farlet.certs import key_pairs
from farlet.certs import serving_certificate as keepers
from unit import faketime
from unit.certs.serving_scene import CA, DAY, Scene, play

# --- asked for and granted --------------------------------------------------------------------


def test_it_asks_as_a_kubelet_does() -> None:
    async def story(scene: Scene) -> None:
        (csr,) = scene.home.requests
        spec = csr["spec"]
        assert (spec["signerName"], spec["usages"]) == (
            "kubernetes.io/kubelet-serving",
            ["digital signature", "server auth"],
        )
        assert base64.b64decode(spec["request"]).startswith(b"-----BEGIN CERTIFICATE REQUEST")

    play(story)


def test_what_is_granted_is_served_at_once() -> None:
    async def story(scene: Scene) -> None:
        assert not scene.signed()
        scene.grant("csr-0")
        await asyncio.sleep(0.1)
        assert scene.signed()
        assert key_pairs.covers(scene.shown, node="far", addresses=["10.0.0.1"])

    play(story)


def test_an_approval_after_hours_is_still_taken() -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(20 * 3600)
        scene.grant("csr-0")
        await asyncio.sleep(1.0)
        assert scene.signed()
        assert len(scene.home.requests) == 1

    play(story)


def test_approved_is_not_yet_signed() -> None:
    async def story(scene: Scene) -> None:
        scene.home.decide("csr-0", "Approved")
        await asyncio.sleep(30.0)
        assert not scene.signed()
        scene.home.sign("csr-0", CA, now=scene.now(), life=DAY)
        await asyncio.sleep(0.1)
        assert scene.signed()

    play(story)


def test_who_waits_is_told_once_what_it_means_and_what_to_do() -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(3600.0)

    (told,) = [line for line in play(story) if line["log_level"] == "warning"]
    assert told["event"] == "serving certificate is self-signed"
    assert "--kubelet-certificate-authority" in told["consequence"]
    assert told["cure"].startswith("kubectl certificate approve csr-0, or give --tls-cert-file")


def test_nobody_is_told_when_an_approver_answers_at_once() -> None:
    async def story(scene: Scene) -> None:
        scene.grant("csr-0")
        await asyncio.sleep(3600.0)

    assert [line for line in play(story) if line["log_level"] == "warning"] == []


def test_it_is_renewed_in_time_and_served_until_then() -> None:
    async def story(scene: Scene) -> None:
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

    play(story)


def test_another_key_is_used_each_time() -> None:
    async def story(scene: Scene) -> None:
        for name in ("csr-0", "csr-1"):
            scene.grant(name, life=timedelta(hours=1))
            await asyncio.sleep(3600.0)
        one, other, *_ = scene.home.requests
        assert one["spec"]["request"] != other["spec"]["request"]

    play(story)


# --- addresses --------------------------------------------------------------------------------


def test_another_address_needs_another_certificate() -> None:
    async def story(scene: Scene) -> None:
        scene.grant("csr-0")
        await asyncio.sleep(1.0)
        scene.addresses = ["10.0.0.2"]
        await asyncio.sleep(keepers.LOOK_SECONDS + 1)
        assert scene.signed()
        scene.grant("csr-1")
        await asyncio.sleep(1.0)
        assert key_pairs.covers(scene.shown, node="far", addresses=["10.0.0.2"])

    play(story)


def test_a_request_for_an_address_that_was_given_up_is_not_waited_for() -> None:
    async def story(scene: Scene) -> None:
        scene.addresses = ["10.0.0.2"]
        await asyncio.sleep(keepers.LOOK_SECONDS + 1)
        scene.grant("csr-0")
        await asyncio.sleep(keepers.LOOK_SECONDS + 1)
        assert not scene.signed()
        scene.grant("csr-1")
        await asyncio.sleep(1.0)
        assert key_pairs.covers(scene.shown, node="far", addresses=["10.0.0.2"])

    play(story)


def test_an_address_less_needs_no_other_certificate() -> None:
    async def story(scene: Scene) -> None:
        scene.addresses = ["10.0.0.1", "10.0.0.9"]
        await asyncio.sleep(keepers.LOOK_SECONDS + 1)
        scene.grant("csr-1")
        await asyncio.sleep(1.0)
        scene.addresses = ["10.0.0.9"]
        await asyncio.sleep(100.0)
        assert len(scene.home.requests) == 2

    play(story)


def test_nothing_is_asked_for_while_there_is_no_address() -> None:
    async def main() -> None:
        scene = Scene(None)
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
