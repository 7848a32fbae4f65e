"""How a server's certificate is checked, by the token exchange and the voice endpoint alike."""

from __future__ import annotations

import ssl
from pathlib import Path

from personaplex_cli.errors import UsageError


def tls_context(ca_file: Path | None, insecure: bool) -> ssl.SSLContext:
    """Checks against `ca_file` alone, or not at all, or against what the system trusts and Mozilla's list
    together: a company's own authority is only in the one, and Python on macOS may find only the other.

    Raises UsageError if the file is not usable.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise _unusable(ca_file, "it holds no certificate in PEM form") from None
    except OSError as error:
        raise _unusable(ca_file, error.strerror or type(error).__name__) from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca_file is None:
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _unusable(ca_file: Path | None, why: str) -> UsageError:
    return UsageError(f"The CA file {ca_file} cannot be used: {why}.")
