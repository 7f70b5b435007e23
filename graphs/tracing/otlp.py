"""Values of OTLP's settings: the endpoint, and the headers of each export. No error has such a value in it, since that may hold a key."""

import ssl
from pathlib import Path
from urllib.parse import unquote, urlsplit


def check_endpoint(address: str, source: str) -> str:
    """The address, without a slash at its end. Raises ValueError, which names `source`."""
    try:
        parts = urlsplit(address)
        if parts.scheme in ("http", "https") and parts.hostname and parts.username is None and parts.port != 0:
            return address.rstrip("/")
    except ValueError:  # of the port, or of an IPv6 address
        pass
    raise ValueError(
        f"{source} must begin with http:// or https://, as in http://collector:4318, without a user: keys are headers"
    )


def parse_headers(text: str, source: str) -> dict[str, str]:
    """Headers from `name=value,name=value`, percent-encoded: OTEL_EXPORTER_OTLP_HEADERS. Raises ValueError, which names `source`."""
    found = {}
    for one in filter(str.strip, text.split(",")):
        name, equals, value = map(str.strip, one.partition("="))
        if not equals or not name:
            raise ValueError(f"{source} is name=value,name=value, percent-encoded")
        found[unquote(name)] = unquote(value)
    return found


def read_headers(path: Path) -> dict[str, str]:
    """Headers from a file of that format. Raises ValueError."""
    return parse_headers(read(path, "tracing.headers_file"), f"tracing.headers_file, {str(path)!r},")


def read_certificates(path: Path) -> str:
    """The certificates of a file, in PEM. Raises ValueError."""
    text = read(path, "tracing.certificate_file")
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise ValueError(f"tracing.certificate_file is {str(path)!r}, which has no certificates in PEM") from None
    return text


def read(path: Path, source: str) -> str:
    """The text of a file. Raises ValueError, which names `source`."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{source} is {str(path)!r}, which cannot be read: {type(error).__name__}") from None
