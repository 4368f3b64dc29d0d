"""What a buyer may send back, and what the engine makes of it: every way to misbehave ends as one
value, before the deadline."""

import pytest

from exchange.core.wire import HttpReply, NoReply, NoReplyKind

BODY = b'{"bid":"1"}'
HEAD = b"HTTP/1.1 200 OK\r\n"

READABLE = {
    "with a length": (HEAD + b"Content-Length: 11\r\n\r\n" + BODY, BODY),
    "in chunks": (
        HEAD
        + b"Transfer-Encoding: chunked\r\n\r\n4\r\n"
        + BODY[:4]
        + b"\r\n7\r\n"
        + BODY[4:]
        + b"\r\n0\r\n\r\n",
        BODY,
    ),
    "in chunks with a trailer": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nContent-Type: a/b\r\n\r\n",
        b"x",
    ),
    "after 100 and 103": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
        + HEAD
        + b"Content-Length: 11\r\n\r\n"
        + BODY,
        BODY,
    ),
    "followed by bytes nobody asked for": (
        HEAD + b"Content-Length: 11\r\n\r\n" + BODY + HEAD + b"Content-Length: 3\r\n\r\nbad",
        BODY,
    ),
    "followed by garbage": (HEAD + b"Content-Length: 11\r\n\r\n" + BODY + b"\x00\xff", BODY),
    "without a body": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "as large as the limit": (HEAD + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000, b"x" * 1000),
}
NOT_AN_ANSWER = {
    "not HTTP": (b"\x16\x03\x01\x02\x00garbage", NoReplyKind.UNREADABLE),
    "HTTP of nonsense": (b"HTTP/9.9 abc\r\n\r\n", NoReplyKind.UNREADABLE),
    "two lengths": (
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", NoReplyKind.UNREADABLE,
    ),
    "length and chunks": (
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nab", NoReplyKind.UNREADABLE,
    ),
    "a switch of protocols": (
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        NoReplyKind.UNREADABLE,
    ),
    "status 000": (b"HTTP/1.1 000 No\r\nContent-Length: 0\r\n\r\n", NoReplyKind.UNREADABLE),
    "an endless head": (HEAD + b"X-Long: a\r\n" * 200, NoReplyKind.UNREADABLE),
    "a head over the limit": (
        HEAD + b"X-Long: " + b"a" * 2000 + b"\r\nContent-Length: 1\r\n\r\nx",
        NoReplyKind.UNREADABLE,
    ),
    "a redirect": (
        b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        NoReplyKind.REDIRECT,
    ),
    "a body over the limit": (
        HEAD + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001, NoReplyKind.TOO_LARGE,
    ),
    "chunks over the limit": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"64\r\n" + b"x" * 100 + b"\r\n") * 11,
        NoReplyKind.TOO_LARGE,
    ),
    "endless 100s": (b"HTTP/1.1 100 Continue\r\n\r\n" * 500, NoReplyKind.UNREADABLE),
    "framing over the limit": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1;" + b"e" * 12_000,
        NoReplyKind.TOO_LARGE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READABLE)
async def test_a_whole_answer_is_read_however_it_is_framed(service, house, acts, name):
    wire, body = READABLE[name]
    endpoint = house.endpoint(await service.serve(acts.answering(wire)))
    (answer,) = await house.ask(endpoint)
    assert isinstance(answer, HttpReply)
    assert answer.body == body


@pytest.mark.parametrize("name", READABLE)
async def test_an_answer_byte_by_byte_is_the_same_answer(service, house, acts, name):
    wire, body = READABLE[name]

    async def dripping(peer):
        await peer.request()
        for at in range(len(wire)):
            peer.say(wire[at : at + 1])
            await peer.writer.drain()
        await peer.gone()

    (answer,) = await house.ask(house.endpoint(await service.serve(dripping)))
    assert isinstance(answer, HttpReply)
    assert answer.body == body


@pytest.mark.parametrize("name", NOT_AN_ANSWER)
async def test_what_is_no_answer_ends_as_its_kind_and_is_known_to_be_sent(
    service, house, acts, name
):
    wire, kind = NOT_AN_ANSWER[name]
    endpoint = house.endpoint(await service.serve(acts.answering(wire)))
    (answer,) = await house.ask(endpoint)
    assert isinstance(answer, NoReply), answer
    assert (answer.kind, answer.sent) == (kind, True), answer
    assert endpoint.stats.in_flight == 0


async def test_the_head_of_a_request_is_whole_and_its_body_is_as_given(service, house):
    seen = []

    async def noting(peer):
        seen.append(await peer.request())
        peer.say(b"HTTP/1.1 204 x\r\n\r\n")
        await peer.gone()

    port = await service.serve(noting)
    endpoint = house.endpoint(
        port, url=f"http://127.0.0.1:{port}/ping?v=1", headers={"X-Key": "k", "content-type": "a/b"}
    )
    await house.ask(endpoint)
    head, body = seen[0]
    assert head.decode().split("\r\n") == [
        "POST /ping?v=1 HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Accept-Encoding: identity",
        "User-Agent: lead-exchange",
        "X-Key: k",
        "content-type: a/b",
        "Content-Length: 2",
        "",
        "",
    ]
    assert body == b"{}"


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_an_answer_that_ends_with_its_connection_is_whole(service, house, version):
    async def closing(peer):
        await peer.request()
        peer.say(b"HTTP/", version, b" 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        peer.say(BODY)
        peer.close()

    endpoint = house.endpoint(await service.serve(closing))
    for _ in range(2):
        (answer,) = await house.ask(endpoint)
        assert answer == HttpReply(status=200, content_type="text/plain", body=BODY)
    assert (endpoint.stats.connects, endpoint.stats.reused) == (2, 0)


async def test_an_answer_cut_off_in_its_body_is_a_reset(service, house):
    async def cutting(peer):
        await peer.request()
        peer.say(HEAD, b"Content-Length: 11\r\n\r\n{")
        peer.close()

    (answer,) = await house.ask(house.endpoint(await service.serve(cutting)))
    assert (answer.kind, answer.sent) == (NoReplyKind.RESET, True)


async def test_an_answer_without_length_that_is_reset_is_no_answer(service, house):
    async def resetting(peer):
        await peer.request()
        peer.say(HEAD, b"\r\n", BODY)
        await peer.writer.drain()
        await peer.request()

    async def reset_after(peer):
        await peer.request()
        peer.say(HEAD, b"\r\n", BODY)
        await peer.writer.drain()
        peer.reset()

    hung = house.endpoint(await service.serve(resetting))
    reset = house.endpoint(await service.serve(reset_after))
    answers = await house.ask(hung, reset, within_s=0.1)
    assert [answer.kind for answer in answers] == [NoReplyKind.TIMEOUT, NoReplyKind.RESET]


async def test_a_reset_before_any_byte_is_a_reset(service, house):
    async def resetting(peer):
        await peer.request()
        peer.reset()

    endpoint = house.endpoint(await service.serve(resetting))
    (answer,) = await house.ask(endpoint)
    assert (answer.kind, answer.sent) == (NoReplyKind.RESET, True)
    assert endpoint.stats.retried == 0  # the connection was fresh: the buyer may have read it


async def test_a_connection_with_unasked_bytes_is_not_used_again(service, house, acts):
    async def chatty(peer):
        await peer.request()
        peer.say(acts.OK, acts.OK)
        await peer.request()
        peer.say(b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n")

    endpoint = house.endpoint(await service.serve(chatty))
    for _ in range(3):
        (answer,) = await house.ask(endpoint)
        assert answer.status == 200
    assert endpoint.stats.reused == 0


async def test_bytes_on_an_idle_connection_close_it(service, house, acts):
    async def chatty(peer):
        await peer.request()
        peer.say(acts.OK)
        await peer.writer.drain()
        peer.say(acts.OK)
        await peer.gone()

    endpoint = house.endpoint(await service.serve(chatty))
    await house.ask(endpoint)
    await acts.until(lambda: endpoint.is_quiet)
