"""Where the exchange may connect to: the URL a buyer is configured with, and the address its name
turns out to have.

Both are checked, because either can lie. `target` refuses a URL before it comes into force;
`refusal` judges the numeric address that is about to be connected to, so a name that resolves to
something else a second later gains nothing. The list is our own: `ipaddress.is_global` calls
several wrapped forms of 127.0.0.1 global. An IPv6 address that carries an IPv4 address (mapped,
translated, 6to4, Teredo, compatible) is judged by what it carries.
"""

from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    NetmaskValueError,
    ip_address,
)
from urllib.parse import SplitResult, urlsplit

from exchange.core.model import Fact

URL_LENGTH_MAX = 2048
HTTPS_PORT, HTTP_PORT = 443, 80
PORT_FREE_MIN = 1024
"""Below this only 443 is allowed: the well-known ports are other protocols (mail, shells), which a
hostile market file could make us speak to."""

_DENIED_4 = {
    IPv4Network("0.0.0.0/8"): "this network",
    IPv4Network("10.0.0.0/8"): "private",
    IPv4Network("100.64.0.0/10"): "carrier-grade NAT",
    IPv4Network("127.0.0.0/8"): "loopback",
    IPv4Network("169.254.0.0/16"): "link-local",
    IPv4Network("172.16.0.0/12"): "private",
    IPv4Network("192.0.0.0/24"): "protocol assignments",
    IPv4Network("192.0.2.0/24"): "documentation",
    IPv4Network("192.88.99.0/24"): "6to4 relay",
    IPv4Network("192.168.0.0/16"): "private",
    IPv4Network("198.18.0.0/15"): "benchmarking",
    IPv4Network("198.51.100.0/24"): "documentation",
    IPv4Network("203.0.113.0/24"): "documentation",
    IPv4Network("224.0.0.0/4"): "multicast",
    IPv4Network("240.0.0.0/4"): "reserved",
}
"""IANA's IPv4 special-purpose registry, with multicast."""

_DENIED_6 = {
    IPv6Network("::/96"): "unspecified, loopback or IPv4-compatible",
    IPv6Network("64:ff9b:1::/48"): "local NAT64",
    IPv6Network("100::/64"): "discard",
    IPv6Network("2001::/23"): "protocol assignments",
    IPv6Network("2001:db8::/32"): "documentation",
    IPv6Network("3fff::/20"): "documentation",
    IPv6Network("fc00::/7"): "private",
    IPv6Network("fe80::/10"): "link-local",
    IPv6Network("fec0::/10"): "site-local",
    IPv6Network("ff00::/8"): "multicast",
}
_GLOBAL_6 = IPv6Network("2000::/3")
"""The only part of IPv6 handed out as global unicast; all else is denied unless named above."""

_LAB = (
    IPv4Network("127.0.0.0/8"),
    IPv4Network("10.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv6Network("::1/128"),
    IPv6Network("fc00::/7"),
)
"""What a lab may connect to as well. Not link-local: clouds keep their credentials there."""

_NAT64 = IPv6Network("64:ff9b::/96")
_MAPPED = IPv6Network("::ffff:0:0/96")
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")
_6TO4 = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
_LOW_32 = 0xFFFF_FFFF

_HOST_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._")
_PATH_LETTERS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:/?[]@!$&'()*+,;=%"
)


class Target(Fact, frozen=True, kw_only=True):
    """A URL taken apart: whom to connect to, and what to ask for. `path` includes the query."""

    tls: bool
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (
            host if self.port == (HTTPS_PORT if self.tls else HTTP_PORT) else f"{host}:{self.port}"
        )


def target(url: str, *, lab: bool) -> Target | str:
    """The parts of a buyer's URL, or a sentence that says why it may not be used.

    `lab` allows plain http, any port, and loopback and private addresses.
    """
    if len(url) > URL_LENGTH_MAX or any(not 0x20 < ord(letter) < 0x7F for letter in url):
        return "a URL is at most 2048 printable ASCII characters without spaces"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "this is not a URL"
    why = _url_refusal(parts, lab=lab) or _host_refusal(parts.hostname or "", lab=lab)
    if why is not None:
        return why
    tls = parts.scheme == "https"
    port = (HTTPS_PORT if tls else HTTP_PORT) if port is None else port
    if port == 0 or (not lab and port != HTTPS_PORT and port < PORT_FREE_MIN):
        return f"port {port} is not allowed: use 443 or one from {PORT_FREE_MIN}"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(tls=tls, host=(parts.hostname or "").rstrip("."), port=port, path=path)


def _url_refusal(parts: SplitResult, *, lab: bool) -> str | None:
    if parts.scheme != "https" and not (lab and parts.scheme == "http"):
        return "the scheme must be https"
    if parts.username is not None or parts.password is not None:
        return "a URL must not carry a user name or password; use a header"
    if parts.fragment:
        return "a URL must not carry a fragment"
    if not set(parts.path) | set(parts.query) <= _PATH_LETTERS:
        return "the path has characters that must be percent-encoded"
    return None


def _host_refusal(host: str, *, lab: bool) -> str | None:
    address = _parsed(host)
    if address is not None:
        return refusal(host, lab=lab)
    labels = host.rstrip(".").split(".")
    if not set(host) <= _HOST_LETTERS or not all(0 < len(label) < 64 for label in labels):
        return "the host is not a valid name (write an international name in its xn-- form)"
    if labels[-1][0].isdigit():
        return "the host looks like a number but is not an address in its usual form"
    return None


def refusal(address: str, *, lab: bool) -> str | None:
    """Why this numeric address may not be connected to, or `None` when it may. Anything that is not
    an address in its usual form (also one with a zone, as in `fe80::1%eth0`) is refused."""
    parsed = _parsed(address)
    if parsed is None:
        return "not an address"
    if isinstance(parsed, IPv4Address):
        return _refusal_4(parsed, lab=lab)
    return _refusal_6(parsed, lab=lab)


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    if "%" in address:
        return None
    try:
        return ip_address(address)
    except (AddressValueError, NetmaskValueError, ValueError):
        return None


def _refusal_4(address: IPv4Address, *, lab: bool) -> str | None:
    if lab and any(address in network for network in _LAB if network.version == 4):
        return None
    return next((why for network, why in _DENIED_4.items() if address in network), None)


def _refusal_6(address: IPv6Address, *, lab: bool) -> str | None:
    carried = _carried(address)
    if carried:
        return next((why for one in carried if (why := _refusal_4(one, lab=lab))), None)
    if lab and any(address in network for network in _LAB if network.version == 6):
        return None
    for network, why in _DENIED_6.items():
        if address in network:
            return why
    return None if address in _GLOBAL_6 else "not global unicast"


def _carried(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses inside an IPv6 one: each of them may be where the bytes end up."""
    number = int(address)
    if address in _MAPPED or address in _NAT64 or address in _TRANSLATED:
        return (IPv4Address(number & _LOW_32),)
    if address in _6TO4:
        return (IPv4Address(number >> 80 & _LOW_32),)
    if address in _TEREDO:
        return (IPv4Address(number >> 64 & _LOW_32), IPv4Address(~number & _LOW_32))
    return ()
