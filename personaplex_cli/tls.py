"""How a server's certificate is checked."""

from __future__ import annotations

import ssl
from pathlib import Path

from personaplex_cli.errors import UsageError


def tls_context(ca_file: Path | None, insecure: bool) -> ssl.SSLContext | None:
    """How to check a server's certificate: against `ca_file` alone, not at all, or (None) as the library in
    use does by itself. Raises UsageError if the file is not usable."""
    if insecure:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        reason = "it holds no certificate in PEM form"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    raise UsageError(f"The CA file {ca_file} cannot be used: {reason}.")
