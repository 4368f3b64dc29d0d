"""Where the exchange may connect to. Each refused form stands here because it once led inside."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.addresses import Target, refusal, target

REFUSED = {
    "0.0.0.0": "this network",
    "10.255.255.255": "private",
    "100.64.0.1": "carrier-grade NAT",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "169.254.169.254": "link-local",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.8": "protocol assignments",
    "192.0.2.1": "documentation",
    "192.88.99.1": "6to4 relay",
    "192.168.1.1": "private",
    "198.18.0.1": "benchmarking",
    "198.51.100.1": "documentation",
    "203.0.113.1": "documentation",
    "224.0.0.1": "multicast",
    "255.255.255.255": "reserved",
    "::": "unspecified, loopback or IPv4-compatible",
    "::1": "unspecified, loopback or IPv4-compatible",
    "::127.0.0.1": "unspecified, loopback or IPv4-compatible",
    "::8.8.8.8": "unspecified, loopback or IPv4-compatible",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:a00:1": "private",
    "::ffff:0:127.0.0.1": "loopback",
    "64:ff9b::7f00:1": "loopback",
    "64:ff9b::a9fe:a9fe": "link-local",
    "64:ff9b:1::1": "local NAT64",
    "2002:7f00:1::": "loopback",
    "2002:a00:1::1": "private",
    "2001:0:7f00:1::": "loopback",
    "2001:0:808:808::f5ff:fffe": "private",  # Teredo client 10.0.0.1, its bits inverted
    "2001:10::1": "protocol assignments",
    "2001:db8::1": "documentation",
    "3fff::1": "documentation",
    "100::1": "discard",
    "fc00::1": "private",
    "fd12:3456::1": "private",
    "fe80::1": "link-local",
    "fec0::1": "site-local",
    "ff02::1": "multicast",
    "4000::1": "not global unicast",
    "fe80::1%eth0": "not an address",
    "2130706433": "not an address",
    "0x7f000001": "not an address",
    "0177.0.0.1": "not an address",
    "127.1": "not an address",
    "localhost": "not an address",
    "": "not an address",
}
ALLOWED = [
    "8.8.8.8",
    "93.184.216.34",
    "172.15.0.1",
    "172.32.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "2606:4700::1111",
    "2a00:1450:4001::5",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]
IN_A_LAB = ["127.0.0.1", "10.1.1.1", "192.168.0.9", "::1", "fd00::1", "::ffff:127.0.0.1"]
NOT_EVEN_IN_A_LAB = ["169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1", "::127.0.0.1"]


@pytest.mark.parametrize(("address", "why"), REFUSED.items())
def test_an_address_that_leads_inside_is_refused_with_its_reason(address, why):
    assert refusal(address, lab=False) == why


@pytest.mark.parametrize("address", ALLOWED)
def test_a_public_address_is_allowed(address):
    assert refusal(address, lab=False) is None


@pytest.mark.parametrize("address", IN_A_LAB)
def test_a_lab_reaches_its_own_network(address):
    assert refusal(address, lab=True) is None
    assert refusal(address, lab=False) is not None


@pytest.mark.parametrize("address", NOT_EVEN_IN_A_LAB)
def test_a_lab_does_not_reach_what_is_nobodys_buyer(address):
    assert refusal(address, lab=True) is not None


@given(st.ip_addresses(v=4))
def test_wrapping_an_ipv4_address_never_makes_it_allowed(inner):
    number = int(inner)
    wrapped = [
        ipaddress.IPv6Address((0xFFFF << 32) | number),
        ipaddress.IPv6Address((0x64FF9B << 96) | number),
        ipaddress.IPv6Address((0x2002 << 112) | number << 80),
        ipaddress.IPv6Address((0x20010000 << 96) | number << 64 | (~0x08080808 & 0xFFFFFFFF)),
    ]
    for outer in wrapped:
        assert refusal(str(outer), lab=False) == refusal(str(inner), lab=False)


@given(st.ip_addresses())
def test_what_we_allow_the_standard_library_calls_global_too(address):
    if refusal(str(address), lab=False) is None:
        assert not (address.is_private)
        assert not (address.is_loopback)
        assert not (address.is_link_local)
        assert not (address.is_multicast)
        assert not (address.is_unspecified)


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused(text):
    assert refusal(text, lab=False) is None or isinstance(refusal(text, lab=True), str | None)


BAD_URLS = {
    "http://buyer.example/": "https",
    "ftp://buyer.example/": "https",
    "//buyer.example/": "https",
    "https://user@buyer.example/": "user name",
    "https://:pw@buyer.example/": "user name",
    "https://buyer.example/#part": "fragment",
    "https://buyer.example:25/": "port 25",
    "https://buyer.example:0/": "port 0",
    "https://buyer.example:99999/": "not a URL",
    "https://[::1/": "not a URL",
    "https:///path": "valid name",
    "https://buyer..example/": "valid name",
    "https://bücher.example/": "ASCII",
    "https://b%75yer.example/": "valid name",
    "https://buyer.example/a b": "ASCII",
    "https://buyer.example/a\r\nX-A: b": "ASCII",
    'https://buyer.example/"': "percent-encoded",
    "https://2130706433/": "looks like a number",
    "https://0x7f.1/": "looks like a number",
    "https://127.1/": "looks like a number",
    "https://127.0.0.1/": "loopback",
    "https://[::ffff:7f00:1]/": "loopback",
    "https://" + "a" * 64 + ".example/": "valid name",
    "https://buyer.example/" + "a" * 2048: "2048",
}


@pytest.mark.parametrize(("url", "why"), BAD_URLS.items())
def test_a_url_that_may_not_be_used_is_refused_with_a_sentence(url, why):
    found = target(url, lab=False)
    assert isinstance(found, str)
    assert why in found


GOOD_URLS = {
    "https://buyer.example": (True, "buyer.example", 443, "/", "buyer.example"),
    "https://Buyer.Example:8443/a?b=c%20d": (
        True,
        "buyer.example",
        8443,
        "/a?b=c%20d",
        "buyer.example:8443",
    ),
    "https://8.8.8.8/x": (True, "8.8.8.8", 443, "/x", "8.8.8.8"),
    "https://[2606:4700::1111]/x": (True, "2606:4700::1111", 443, "/x", "[2606:4700::1111]"),
    "https://xn--bcher-kva.example./": (
        True,
        "xn--bcher-kva.example",
        443,
        "/",
        "xn--bcher-kva.example",
    ),
}


@pytest.mark.parametrize(("url", "parts"), GOOD_URLS.items())
def test_a_good_url_is_taken_apart(url, parts):
    found = target(url, lab=False)
    assert isinstance(found, Target)
    assert (found.tls, found.host, found.port, found.path, found.authority) == parts


def test_a_lab_may_use_plain_http_and_any_port():
    found = target("http://127.0.0.1:81/x", lab=True)
    assert isinstance(found, Target)
    assert (found.tls, found.port) == (False, 81)
    assert target("http://127.0.0.1/", lab=True).port == 80
    assert isinstance(target("gopher://127.0.0.1/", lab=True), str)


@given(st.text(max_size=80))
def test_any_text_is_a_target_or_a_sentence(text):
    for url in (text, f"https://{text}", f"https://buyer.example/{text}"):
        assert isinstance(target(url, lab=False), Target | str)
