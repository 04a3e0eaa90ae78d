"""The serving certificate is requested, renewed, and requested again for new addresses."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta

from farlet.certs import key_pairs, serving_certificate
from unit import faketime
from unit.certs.serving_harness import CA, DAY, Harness, run

# --- request and approval ---------------------------------------------------------------------


def test_the_request_is_that_of_a_kubelet() -> None:
    async def scenario(harness: Harness) -> None:
        (csr,) = harness.home.requests
        spec = csr["spec"]
        assert (spec["signerName"], spec["usages"]) == (
            "kubernetes.io/kubelet-serving",
            ["digital signature", "server auth"],
        )
        assert base64.b64decode(spec["request"]).startswith(b"-----BEGIN CERTIFICATE REQUEST")

    run(scenario)


def test_a_granted_certificate_is_served_immediately() -> None:
    async def scenario(harness: Harness) -> None:
        assert not harness.signed()
        harness.grant("csr-0")
        await asyncio.sleep(0.1)
        assert harness.signed()
        assert key_pairs.covers(harness.served, node="far", addresses=["10.0.0.1"])

    run(scenario)


def test_an_approval_after_hours_is_accepted() -> None:
    async def scenario(harness: Harness) -> None:
        await asyncio.sleep(20 * 3600)
        harness.grant("csr-0")
        await asyncio.sleep(1.0)
        assert harness.signed()
        assert len(harness.home.requests) == 1

    run(scenario)


def test_an_approved_request_is_used_only_once_signed() -> None:
    async def scenario(harness: Harness) -> None:
        harness.home.decide("csr-0", "Approved")
        await asyncio.sleep(30.0)
        assert not harness.signed()
        harness.home.sign("csr-0", CA, now=harness.now(), lifetime=DAY)
        await asyncio.sleep(0.1)
        assert harness.signed()

    run(scenario)


def test_a_pending_request_is_reported_once_with_consequence_and_fix() -> None:
    async def scenario(harness: Harness) -> None:
        await asyncio.sleep(3600.0)

    (warning,) = [line for line in run(scenario) if line["log_level"] == "warning"]
    assert warning["event"] == "serving certificate is self-signed"
    assert "--kubelet-certificate-authority" in warning["consequence"]
    assert warning["fix"].startswith("kubectl certificate approve csr-0, or set --tls-cert-file")


def test_an_immediate_approval_logs_no_warning() -> None:
    async def scenario(harness: Harness) -> None:
        harness.grant("csr-0")
        await asyncio.sleep(3600.0)

    assert [line for line in run(scenario) if line["log_level"] == "warning"] == []


def test_a_certificate_is_renewed_in_time_and_served_until_then() -> None:
    async def scenario(harness: Harness) -> None:
        harness.grant("csr-0")
        await asyncio.sleep(1.0)
        first = harness.served
        await asyncio.sleep(0.79 * DAY.total_seconds())
        assert len(harness.home.requests) == 1
        await asyncio.sleep(0.02 * DAY.total_seconds())
        assert len(harness.home.requests) == 2
        assert harness.served == first
        harness.grant("csr-1")
        await asyncio.sleep(1.0)
        assert harness.signed()
        assert harness.served != first

    run(scenario)


def test_each_request_has_a_new_key() -> None:
    async def scenario(harness: Harness) -> None:
        for name in ("csr-0", "csr-1"):
            harness.grant(name, lifetime=timedelta(hours=1))
            await asyncio.sleep(3600.0)
        one, other, *_ = harness.home.requests
        assert one["spec"]["request"] != other["spec"]["request"]

    run(scenario)


# --- addresses --------------------------------------------------------------------------------


def test_a_new_address_requires_a_new_certificate() -> None:
    async def scenario(harness: Harness) -> None:
        harness.grant("csr-0")
        await asyncio.sleep(1.0)
        harness.addresses = ["10.0.0.2"]
        await asyncio.sleep(serving_certificate.CHECK_SECONDS + 1)
        assert harness.signed()
        harness.grant("csr-1")
        await asyncio.sleep(1.0)
        assert key_pairs.covers(harness.served, node="far", addresses=["10.0.0.2"])

    run(scenario)


def test_a_request_for_a_previous_address_is_abandoned() -> None:
    async def scenario(harness: Harness) -> None:
        harness.addresses = ["10.0.0.2"]
        await asyncio.sleep(serving_certificate.CHECK_SECONDS + 1)
        harness.grant("csr-0")
        await asyncio.sleep(serving_certificate.CHECK_SECONDS + 1)
        assert not harness.signed()
        harness.grant("csr-1")
        await asyncio.sleep(1.0)
        assert key_pairs.covers(harness.served, node="far", addresses=["10.0.0.2"])

    run(scenario)


def test_a_removed_address_requires_no_new_certificate() -> None:
    async def scenario(harness: Harness) -> None:
        harness.addresses = ["10.0.0.1", "10.0.0.9"]
        await asyncio.sleep(serving_certificate.CHECK_SECONDS + 1)
        harness.grant("csr-1")
        await asyncio.sleep(1.0)
        harness.addresses = ["10.0.0.9"]
        await asyncio.sleep(100.0)
        assert len(harness.home.requests) == 2

    run(scenario)


def test_no_certificate_is_requested_without_an_address() -> None:
    async def main() -> None:
        harness = Harness(None)
        harness.addresses = []
        harness.manager.prepare()
        running = asyncio.create_task(harness.manager.run())
        await asyncio.sleep(60.0)
        assert harness.home.requests == []
        harness.addresses = ["10.0.0.1"]
        await asyncio.sleep(serving_certificate.CHECK_SECONDS + 1)
        assert len(harness.home.requests) == 1
        running.cancel()
        await asyncio.wait([running])

    faketime.run(main())
