"""Whom the engine connects to: names, forbidden addresses, certificates; and posts, which are sent
once or not at all."""

import asyncio
import datetime
import gc
import socket
import ssl

import pytest
import trustme

from exchange.core.wire import HttpReply, NoReplyKind

FORBIDDEN_URLS = [
    "http://buyer.example/ping",  # not https
    "https://user:secret@buyer.example/",
    "https://buyer.example:22/",
    "https://127.0.0.1/",
    "https://[::1]/",
    "https://[::ffff:10.0.0.1]/",
    "https://2130706433/",
    "https://0x7f.1/",
    "https://169.254.169.254/latest/meta-data",
    "https://buyer.example/a b",
    "ftp://buyer.example/",
    "",
]


@pytest.mark.parametrize("url", FORBIDDEN_URLS)
async def test_a_url_that_may_not_be_used_is_answered_forbidden_without_a_byte(houses, url):
    looked_up = []
    house = houses(lab=False, resolve=looked_up.append)
    (answer,) = await house.ask(house.endpoint(1, url=url))
    assert (answer.kind, answer.sent) == (NoReplyKind.FORBIDDEN, False)
    assert looked_up == []


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
)
async def test_a_name_that_leads_inside_is_answered_forbidden(houses, address):
    house = houses(lab=False, resolve=lambda host: [address])
    (answer,) = await house.ask(house.endpoint(1, url="https://buyer.example/"))
    assert (answer.kind, answer.sent) == (NoReplyKind.FORBIDDEN, False)


async def test_the_address_that_was_checked_is_the_one_connected_to(houses, service, acts):
    """A name that answers something else the second time gains nothing: it is asked once."""
    answers = iter([["127.0.0.1"], ["169.254.169.254"], ["169.254.169.254"]])
    house = houses(resolve=lambda host: next(answers))
    port = await service.serve(acts.polite)
    endpoint = house.endpoint(port, url=f"http://buyer.example:{port}/")
    assert (await house.ask(endpoint))[0].status == 200
    assert next(answers) == ["169.254.169.254"]  # one lookup so far


@pytest.mark.parametrize(
    "headers", [{"Host": "x"}, {"X-A": "a\r\nX-B: b"}, {"X A": "b"}, {"é": ""}]
)
async def test_headers_that_would_change_the_request_are_forbidden(house, headers):
    (answer,) = await house.ask(house.endpoint(1, headers=headers))
    assert (answer.kind, answer.sent) == (NoReplyKind.FORBIDDEN, False)


async def test_a_name_without_addresses_is_unresolved(houses):
    def resolve(host):
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    house = houses(resolve=resolve)
    (answer,) = await house.ask(house.endpoint(1, url="http://buyer.example/"))
    assert (answer.kind, answer.sent) == (NoReplyKind.UNRESOLVED, False)
    house = houses(resolve=lambda host: [])
    (answer,) = await house.ask(house.endpoint(1, url="http://buyer.example/"))
    assert answer.kind is NoReplyKind.UNRESOLVED


async def test_known_addresses_are_served_while_the_resolver_fails(houses, service, acts):
    known = [["127.0.0.1"]]

    def resolve(host):
        if known:
            return known.pop()
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    house = houses(resolve=resolve, dns_ttl_s=0, connection_age_s=-1)
    port = await service.serve(acts.polite)
    endpoint = house.endpoint(port, url=f"http://buyer.example:{port}/")
    for _ in range(3):
        assert (await house.ask(endpoint))[0].status == 200
    assert endpoint.stats.connects == 3


async def test_a_slow_resolver_ends_with_the_round(houses, acts):
    is_over = asyncio.Event()
    loop = asyncio.get_running_loop()

    def resolve(host):
        return asyncio.run_coroutine_threadsafe(is_over.wait(), loop).result() and ["127.0.0.1"]

    house = houses(resolve=resolve)
    endpoint = house.endpoint(1, url="http://buyer.example:1/")
    (answer,) = await house.ask(endpoint, within_s=0.05)
    assert (answer.kind, answer.sent) == (NoReplyKind.UNREACHABLE, False)
    assert endpoint.stats.in_flight == 0
    is_over.set()
    await acts.until(lambda: endpoint.is_quiet)


async def test_a_closed_port_is_unreachable(house):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        (answer,) = await house.ask(house.endpoint(taken.getsockname()[1]))
    assert (answer.kind, answer.sent) == (NoReplyKind.UNREACHABLE, False)


async def test_the_next_address_of_a_name_is_tried(houses, service, acts):
    house = houses(resolve=lambda host: ["127.0.0.9", "127.0.0.1"])
    port = await service.serve(acts.polite)
    endpoint = house.endpoint(port, url=f"http://buyer.example:{port}/")
    assert (await house.ask(endpoint))[0].status == 200


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def served_by(authority, host="buyer.example", **more):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host, **more).configure_cert(context)
    return context


async def over_tls(houses, service, acts, authority, context, *, trusted=True, script=None):
    house = houses(resolve=lambda host: ["127.0.0.1"])
    port = await service.serve(script or acts.polite, context)
    endpoint = house.endpoint(
        port,
        url=f"https://buyer.example:{port}/ping",
        tls_ca=authority.cert_pem.bytes().decode() if trusted else None,
    )
    return house, endpoint


async def test_a_buyer_with_a_good_certificate_is_asked_over_tls(houses, service, acts, authority):
    house, endpoint = await over_tls(houses, service, acts, authority, served_by(authority))
    for _ in range(3):
        assert (await house.ask(endpoint))[0].status == 200
    assert (endpoint.stats.connects, endpoint.stats.reused) == (1, 2)


async def test_the_authority_may_be_a_file_and_a_bad_one_is_forbidden(
    house, authority, tmp_path, service, acts
):
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    port = await service.serve(acts.polite, served_by(authority, "127.0.0.1"))
    url = f"https://127.0.0.1:{port}/"
    assert (await house.ask(house.endpoint(1, url=url, tls_ca=str(path))))[0].status == 200
    for bad in (str(tmp_path / "none.pem"), "-----BEGIN nonsense"):
        (answer,) = await house.ask(house.endpoint(1, url=url, tls_ca=bad))
        assert answer.kind is NoReplyKind.FORBIDDEN


@pytest.mark.parametrize("flaw", ["expired", "wrong host", "unknown authority"])
async def test_a_certificate_that_does_not_verify_is_unreachable_and_gets_no_byte(
    houses, service, acts, authority, flaw
):
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    context = {
        "expired": lambda: served_by(authority, not_after=past),
        "wrong host": lambda: served_by(authority, "other.example"),
        "unknown authority": lambda: served_by(trustme.CA()),
    }[flaw]()
    seen = []

    async def noting(peer):
        seen.append(await peer.request())

    house, endpoint = await over_tls(houses, service, acts, authority, context, script=noting)
    (answer,) = await house.ask(endpoint)
    assert (answer.kind, answer.sent) == (NoReplyKind.UNREACHABLE, False)
    assert answer.detail.startswith("certificate: ")
    assert seen == []


async def test_a_buyer_that_speaks_no_tls_is_unreachable(houses, service, acts, authority):
    house, endpoint = await over_tls(houses, service, acts, authority, None)
    (answer,) = await house.ask(endpoint)
    assert (answer.kind, answer.sent) == (NoReplyKind.UNREACHABLE, False)


async def test_a_late_answer_over_tls_is_drained_too(houses, service, acts, authority):
    may_answer = asyncio.Event()

    async def late(peer):
        await peer.request()
        await may_answer.wait()
        peer.say(acts.OK)
        await acts.polite(peer)

    house, endpoint = await over_tls(
        houses, service, acts, authority, served_by(authority), script=late
    )
    (answer,) = await house.ask(endpoint, within_s=0.2)
    assert answer.kind is NoReplyKind.TIMEOUT
    may_answer.set()
    await acts.until(lambda: endpoint.stats.late == 1)
    assert (await house.ask(endpoint))[0].status == 200
    assert service.connections == 1


# --- posts ----------------------------------------------------------------------------------------


async def test_a_post_is_sent_with_its_headers_and_answered(service, house):
    seen = []

    async def noting(peer):
        seen.append(await peer.request())
        peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await peer.gone()

    endpoint = house.endpoint(await service.serve(noting), pool="post")
    answer = await house.send(endpoint, headers=(("Idempotency-Key", "k"),))
    assert answer == HttpReply(status=200, body=b"ok")
    assert b"\r\nIdempotency-Key: k\r\n" in seen[0][0]


async def test_an_inquiry_adds_its_query_to_the_url(service, house):
    seen = []

    async def noting(peer):
        seen.append(await peer.request())
        peer.say(b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n")
        await peer.gone()

    port = await service.serve(noting)
    endpoint = house.endpoint(port, url=f"http://127.0.0.1:{port}/status?v=2", pool="post")
    answer = await house.send(endpoint, method="GET", query="attempt_id=7")
    assert answer.status == 404
    assert seen[0][0].startswith(b"GET /status?v=2&attempt_id=7 HTTP/1.1\r\n")


async def test_a_post_on_a_half_dead_connection_is_never_repeated(service, house, acts):
    async def dying(peer):
        await peer.request()
        peer.say(acts.OK)
        await peer.request()
        peer.reset()

    endpoint = house.endpoint(await service.serve(dying), pool="post")
    await house.send(endpoint)
    answer = await house.send(endpoint)
    assert (answer.kind, answer.sent) == (NoReplyKind.RESET, True)
    assert (endpoint.stats.retried, service.connections) == (0, 1)


async def test_a_post_trusts_an_idle_connection_for_a_shorter_time_than_a_ping(
    houses, service, acts
):
    house = houses(post_idle_s=-1, ping_idle_s=30)  # -1: any idle time is too long
    port = await service.serve(acts.polite)
    post = house.endpoint(port, key="post", pool="post")
    ping = house.endpoint(port, key="ping", pool="ping")
    for _ in range(2):
        assert (await house.send(post)).status == 200
        assert (await house.ask(ping))[0].status == 200
    assert (post.stats.connects, ping.stats.connects) == (2, 1)


@pytest.mark.parametrize(
    ("script", "kind", "sent"),
    [
        ("hanging", NoReplyKind.TIMEOUT, True),
        ("resetting", NoReplyKind.RESET, True),
        ("redirecting", NoReplyKind.REDIRECT, True),
        ("nobody", NoReplyKind.UNREACHABLE, False),
        ("full", NoReplyKind.BUSY, False),
        ("no time", NoReplyKind.TIMEOUT, False),
    ],
)
async def test_whether_a_post_was_sent_is_known_exactly(service, house, acts, script, kind, sent):
    async def resetting(peer):
        await peer.request()
        peer.reset()

    behaviour = {
        "resetting": resetting,
        "redirecting": acts.answering(
            b"HTTP/1.1 308 x\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"
        ),
    }.get(script, acts.hanging)
    port = 1 if script == "nobody" else await service.serve(behaviour)
    endpoint = house.endpoint(port, pool="post", in_flight_max=0 if script == "full" else 4)
    answer = await house.send(endpoint, within_s=-1 if script == "no time" else 0.2)
    assert (answer.kind, answer.sent) == (kind, sent)


async def test_a_cancelled_post_leaves_its_connection_draining(service, house, acts):
    may_answer, was_asked = asyncio.Event(), asyncio.Event()

    async def slow(peer):
        await peer.request()
        was_asked.set()
        await may_answer.wait()
        peer.say(acts.OK)
        await peer.gone()

    endpoint = house.endpoint(await service.serve(slow), pool="post")
    post = asyncio.create_task(house.send(endpoint))
    await was_asked.wait()
    post.cancel()
    with pytest.raises(asyncio.CancelledError):
        await post
    may_answer.set()
    await acts.until(lambda: endpoint.stats.dropped == 1)
    assert endpoint.stats.in_flight == 0


async def test_a_header_that_breaks_out_of_its_line_is_a_bug_and_is_not_sent(house, service, acts):
    endpoint = house.endpoint(await service.serve(acts.polite), pool="post")
    with pytest.raises(ValueError, match="printable"):
        await house.send(endpoint, headers=(("X-A", "1\r\nX-B: 2"),))
    with pytest.raises(ValueError, match="query"):
        await house.send(endpoint, query="a b")
    assert service.connections == 0


async def test_a_connection_that_is_gone_does_not_wait_for_the_collector(houses, service, acts):
    """Buyers that close after every answer cost hundreds of connections a minute, each with a
    parser of several kilobytes."""
    house = houses()
    port = await service.serve(acts.answering(acts.OK))
    endpoint = house.endpoint(port)
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            await house.ask(endpoint)
            await house.buyers.close()
        kept = [one for one in gc.get_objects() if type(one).__name__ == "Connection"]
    finally:
        gc.enable()
    assert not kept
