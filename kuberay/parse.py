"""Ranges of addresses, gateways and hosts, as options and values files name them: checked, and refused with what to write."""

import ipaddress
import re

LABEL = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"


def network_range(text: str) -> str:
    """The CIDR of an address or a range. Raises ValueError, which names the accepted forms."""
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError as error:
        sentence = f"{text!r} is no network: give an address such as 10.96.0.10, or a range such as 10.96.0.0/28"
        raise ValueError(sentence) from error
    if interface.ip != interface.network.network_address:
        raise ValueError(
            f"{text} has host bits set: give {interface.network} for the range, or {interface.ip} for this address alone"
        )
    return str(interface.network)


def gateway_name(text: str) -> str:
    """The [NAMESPACE/]NAME of a Gateway. Raises ValueError."""
    if not re.fullmatch(rf"({LABEL}/)?{LABEL}(\.{LABEL})*", text):
        raise ValueError(f"{text!r} names no Gateway: give NAME, or NAMESPACE/NAME, of a-z, 0-9 and -")
    return text


def hostname(text: str) -> str:
    """A host that a route is for. Raises ValueError."""
    if not re.fullmatch(rf"(\*\.)?{LABEL}(\.{LABEL})*", text) or re.fullmatch("[0-9.]+", text):
        raise ValueError(f"{text!r} is no hostname: give a name such as pictures.example.org, without scheme, port or path")
    return text
