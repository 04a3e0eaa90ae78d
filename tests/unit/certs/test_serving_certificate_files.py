"""Files of somebody else: a serving certificate that is given, and followed when it changes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from farlet import errors
from farlet.certs import client_ca, serving_tls
from farlet.certs import serving_certificate as keepers
from unit import certificates, faketime
from unit.certificates import SERVER
from unit.certs.home_server import Home
from unit.certs.serving_scene import CA


def _files(folder: Path, pair: certificates.Pair) -> tuple[Path, Path]:
    return pair.write(folder, "serving")


def test_files_are_followed(tmp_path: Path) -> None:
    first, second = (certificates.issue(CA, uses=[SERVER]) for _ in range(2))

    async def main() -> None:
        certificate, key = _files(tmp_path, first)
        tls = serving_tls.ServingTLS(client_ca.ClientCA(Home(), file=None))
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
    tls = serving_tls.ServingTLS(client_ca.ClientCA(Home(), file=None))
    keeper = keepers.FileCertificate(tls, certificate=certificate, key=certificate)
    with pytest.raises(errors.StartError, match=r"--tls-cert-file .*serving\.crt"):
        keeper.prepare()
