"""An answer whose head was seen before is read without the parser, and says just the same."""

from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.effects.buyers.connection import HEAD_KNOWN_BYTES_MAX, Connection, Head
from exchange.effects.buyers.endpoint import HEADS_KNOWN_MAX

OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = (
    OK + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    OK + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
    OK + b"Content-Length: 0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}",
    OK + b"Content-Length: 2\r\n\r\n{}extra",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 307 Go\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n{}",
)


class Transport:
    """Where a connection would write."""

    def __init__(self) -> None:
        self.closed = False

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


def told(heads: dict[bytes, Head], pieces: list[bytes]) -> tuple[Any, bool]:
    """What a fresh connection, whose endpoint knows these heads, makes of bytes: the answer, and
    whether it may be used again."""
    owner = Mock(reply_bytes_max=1_000, head_bytes_max=2_000, heads=heads)
    owner.learn.side_effect = heads.__setitem__
    asking = Mock(held=[None], repeatable=True)
    connection, transport = Connection(owner, now=0.0), Transport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    connection.ask(asking, 0, b"?")
    for piece in pieces:
        connection.data_received(piece)
    (answer,) = asking.settle.call_args_list
    ends = (owner.served, owner.answered, owner.failed)
    assert sum(end.call_count for end in ends) == 1
    return answer.args, connection.is_usable


@given(
    answers=st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=6),
    cut=st.integers(min_value=0, max_value=60),
)
def test_an_answer_means_the_same_whatever_heads_were_seen_before(
    answers: list[bytes], cut: int
) -> None:
    heads: dict[bytes, Head] = {}
    for answer in answers:
        pieces = [piece for piece in (answer[:cut], answer[cut:]) if piece]
        assert told(heads, pieces) == told({}, [answer])


@pytest.mark.parametrize("answer", [ANSWERS[0], ANSWERS[2], ANSWERS[6]])
def test_the_head_of_a_plain_answer_is_learnt_and_spares_the_parser(answer: bytes) -> None:
    heads: dict[bytes, Head] = {}
    first = told(heads, [answer])
    (known,) = heads
    assert answer.startswith(known)
    heads[known] = Head(status=299, content_type="known", body_bytes=heads[known].body_bytes)
    (_, reply), _ = told(heads, [answer])
    assert reply.status == 299, "the head's bytes alone were looked at"
    assert reply.body == first[0][1].body


@pytest.mark.parametrize(
    "answer",
    [
        *(ANSWERS[place] for place in (3, 4, 5, 7, 8, 9)),
        OK + b"X-Long: " + b"a" * HEAD_KNOWN_BYTES_MAX + b"\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_any_other_head_is_left_to_the_parser(answer: bytes) -> None:
    heads: dict[bytes, Head] = {}
    told(heads, [answer])
    assert not heads


async def test_an_endpoint_remembers_only_so_many_heads(
    service: Any, house: Any, acts: Any
) -> None:
    async def dated(peer: Any) -> None:
        for second in range(HEADS_KNOWN_MAX + 1):
            await peer.request()
            peer.say(OK + b"Date: %d\r\nContent-Length: 0\r\n\r\n" % second)
        await peer.gone()

    endpoint = house.endpoint(await service.serve(dated))
    for second in range(HEADS_KNOWN_MAX + 1):
        await house.ask(endpoint)
        assert len(endpoint.heads) == second % HEADS_KNOWN_MAX + 1
