"""A serving certificate from files of an administrator is reloaded when it changes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from farlet import errors
from farlet.certs import client_ca, serving_certificate, serving_tls
from unit import certificates, faketime
from unit.certificates import SERVER
from unit.certs.home_server import Home
from unit.certs.serving_harness import CA, START


def _files(folder: Path, pair: certificates.Pair) -> tuple[Path, Path]:
    return pair.write(folder, "serving")


def test_changed_files_are_reloaded(tmp_path: Path) -> None:
    first, second = (certificates.issue(CA, uses=[SERVER]) for _ in range(2))

    async def main() -> None:
        certificate, key = _files(tmp_path, first)
        tls = serving_tls.ServingTLS(client_ca.ClientCA(Home(), file=None), now=lambda: START)
        manager = serving_certificate.FileCertificate(tls, certificate=certificate, key=key)
        manager.prepare()
        running = asyncio.create_task(manager.run())
        served = []
        for content in (None, second.pem, None):
            if content:
                certificate.write_text(content)
            else:
                served.append(tls._pair and tls._pair.leaf)
            await asyncio.sleep(serving_certificate.CHECK_SECONDS + 1)
        key.write_text(second.key_pem)
        await asyncio.sleep(serving_certificate.CHECK_SECONDS + 1)
        served.append(tls._pair and tls._pair.leaf)
        assert served == [first.certificate, first.certificate, second.certificate]
        running.cancel()
        await asyncio.wait([running])

    faketime.run(main())


def test_invalid_files_fail_the_start(tmp_path: Path) -> None:
    certificate, _ = _files(tmp_path, certificates.issue(CA))
    tls = serving_tls.ServingTLS(client_ca.ClientCA(Home(), file=None), now=lambda: START)
    manager = serving_certificate.FileCertificate(tls, certificate=certificate, key=certificate)
    with pytest.raises(errors.StartError, match=r"--tls-cert-file .*serving\.crt"):
        manager.prepare()
