from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from personaplex_cli.errors import ExitCode, UsageError
from personaplex_cli.tls import tls_context

CERTIFICATE = Path(__file__).parent / "fixtures" / "tls" / "loopback.pem"


def test_usually_everything_is_checked() -> None:
    context = tls_context(None, insecure=False)
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
    assert context.get_ca_certs()


def test_a_ca_file_is_the_only_one_trusted_and_names_are_checked() -> None:
    context = tls_context(CERTIFICATE, insecure=False)
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize("ca_file", [None, CERTIFICATE])
def test_insecure_checks_nothing(ca_file: Path | None) -> None:
    context = tls_context(ca_file, insecure=True)
    assert context.verify_mode is ssl.CERT_NONE and not context.check_hostname


def test_files_that_hold_no_certificate(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    (tmp_path / "noise.pem").write_bytes(bytes(range(256)))
    for name in ("missing.pem", "empty.pem", "noise.pem", "."):
        with pytest.raises(UsageError) as caught:
            tls_context(tmp_path / name, insecure=False)
        assert caught.value.exit_code == ExitCode.USAGE
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_nobody_may_read(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(CERTIFICATE.read_bytes())
    (tmp_path / "ca.pem").chmod(0)
    with pytest.raises(UsageError, match="Permission denied"):
        tls_context(tmp_path / "ca.pem", insecure=False)
