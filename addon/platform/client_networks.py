"""Whom a limit by client address is for."""

from ipaddress import IPv6Address, ip_address, ip_network


def network_of(address: str) -> str:
    """Of IPv6 the network: whoever has one address has all of a /64."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped:  # how a socket for both calls the clients of IPv4
            return str(parsed.ipv4_mapped)
        return str(ip_network((parsed, 64), strict=False))
    return str(parsed)
