"""The multiplexed connection to Valkey, against the real server and against one that misbehaves."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from urllib.parse import unquote, urlsplit

import pytest

from exchange.effects.valkey import Valkey, ValkeyBusy, ValkeyDown, ValkeyError, ValkeyRefused

pytestmark = pytest.mark.real


async def opened(url: str, **settings) -> Valkey:
    defaults = {
        "queue_max": 1_000,
        "timeout_ms": 5_000,
        "backoff_ms": (1, 20),
        "jitter": lambda: 0.0,
    }
    return await Valkey.open(url, **{**defaults, **settings})


@pytest.fixture
async def valkey(valkey_url: str) -> AsyncIterator[Valkey]:
    valkey = await opened(valkey_url)
    yield valkey
    await valkey.close()


async def until(is_so: Callable[[], bool]) -> None:
    """Turns of the loop until something is so; the suite's own timeout ends what never is."""
    while not is_so():  # noqa: ASYNC110  # what is waited for has no event
        await asyncio.sleep(0)


class Stopped:
    """The server stands still: it accepts what is written and answers nobody."""

    def __init__(self, servers) -> None:
        self._servers = servers

    def __enter__(self) -> None:
        self._servers.kill("valkey", signal.SIGSTOP)

    def __exit__(self, *_) -> None:
        self._servers.kill("valkey", signal.SIGCONT)


async def test_replies_come_back_to_those_who_asked_in_order(valkey):
    sets = [valkey.call(f"k{n}", "SET", f"k{n}", n) for n in range(500)]
    gets = [valkey.call(f"k{n}", "GET", f"k{n}") for n in range(500)]
    assert set(await asyncio.gather(*sets)) == {b"OK"}
    assert await asyncio.gather(*gets) == [str(n).encode() for n in range(500)]
    assert valkey.queued == 0


async def test_the_commands_of_one_turn_leave_in_one_write(valkey):
    writes = []
    link = valkey._link
    link._transport, transport = Recorded(link._transport, writes), link._transport
    await asyncio.gather(*(valkey.call("k", "INCR", "k") for _ in range(100)))
    link._transport = transport
    assert len(writes) == 1


class Recorded:
    def __init__(self, transport, writes):
        self._transport, self._writes = transport, writes

    def write(self, data):
        self._writes.append(data)
        self._transport.write(data)


async def test_an_error_of_the_server_goes_to_its_caller_alone(valkey):
    await valkey.call("k", "SET", "k", "text")
    wrong, right = valkey.call("k", "INCR", "k"), valkey.call("k", "GET", "k")
    with pytest.raises(ValkeyRefused, match="not an integer"):
        await wrong
    assert await right == b"text"


async def test_cancelled_commands_never_desynchronise(valkey):
    await asyncio.gather(*(valkey.call(f"k{n}", "SET", f"k{n}", n) for n in range(64)))
    for turn in range(20):
        asked = {n: valkey.call(f"k{n}", "GET", f"k{n}") for n in range(64)}
        if turn % 2:
            await asyncio.sleep(0)  # the command has left: only its reply is unwanted
        for n in range(0, 64, 3):
            asked[n].cancel()
        for n, reply in asked.items():
            if n % 3:
                assert await reply == str(n).encode()
    assert valkey.connects == 1


async def test_commands_cancelled_while_the_server_hangs_never_desynchronise(valkey, servers):
    await valkey.call("k", "SET", "k", "mine")
    with Stopped(servers):
        late = [asyncio.create_task(valkey.script("give_back", ("g",), ("x",))) for _ in range(50)]
        await until(lambda: valkey.queued == 50)
        for task in late:
            task.cancel()
        await asyncio.wait(late)
        mine = valkey.call("k", "GET", "k")
    assert await mine == b"mine"
    assert valkey.connects == 1


async def test_no_reply_in_time_is_valkey_down_and_the_late_reply_is_dropped(valkey_url, servers):
    valkey = await opened(valkey_url, timeout_ms=200)
    await valkey.call("k", "SET", "k", "mine")
    with Stopped(servers):
        with pytest.raises(ValkeyDown, match="in time"):
            await valkey.call("other", "GET", "other")
        assert valkey.up
        assert valkey.queued == 1
    assert await valkey.call("k", "GET", "k") == b"mine"
    assert valkey.queued == 0
    assert valkey.connects == 1
    await valkey.close()


async def test_nothing_is_sent_twice_when_time_runs_out(valkey_url, servers):
    valkey = await opened(valkey_url, timeout_ms=200)
    with Stopped(servers), pytest.raises(ValkeyDown):
        await valkey.call("n", "INCR", "n")
    assert await valkey.call("n", "GET", "n") == b"1"
    await valkey.close()


async def test_a_full_queue_refuses_and_sends_nothing(valkey_url):
    valkey = await opened(valkey_url, queue_max=3)
    asked = [valkey.call("n", "INCR", "n") for _ in range(3)]
    with pytest.raises(ValkeyBusy, match="3 commands"):
        valkey.call("n", "INCR", "n")
    assert await asyncio.gather(*asked) == [1, 2, 3]
    assert await valkey.call("n", "GET", "n") == b"3"
    await valkey.close()


async def test_a_script_unknown_to_the_server_is_loaded_and_run_once(valkey):
    await valkey.call("k", "SET", "k", "mine")
    assert await valkey.script("give_back", ("k",), ("other",)) == 0
    await valkey.call("k", "SCRIPT", "FLUSH")
    answers = await asyncio.gather(
        *(valkey.script("give_back", ("k",), ("mine",)) for _ in range(50))
    )
    assert sorted(answers) == [0] * 49 + [1]


async def test_an_error_inside_a_script_is_not_run_again(valkey):
    await valkey.call("k", "LPUSH", "k", "not a string")
    await valkey.call("k", "CONFIG", "RESETSTAT")
    with pytest.raises(ValkeyRefused, match="WRONGTYPE"):
        await valkey.script("give_back", ("k",), ("mine",))
    stats = (await valkey.call("k", "INFO", "commandstats")).decode()
    # The first call of this script on this server may have been a NOSCRIPT, which runs nothing.
    assert "cmdstat_get:calls=1," in stats


async def test_a_broken_connection_fails_those_who_wait_and_comes_back(valkey):
    other = asyncio.create_task(
        asyncio.wait_for(valkey.call("list", "BLPOP", "list", 0), timeout=None)
    )
    await until(lambda: valkey.queued == 1)
    valkey._link.abort()
    with pytest.raises(ValkeyDown, match="broke"):
        await other
    assert not valkey.up
    with pytest.raises(ValkeyDown, match="not connected"):
        valkey.call("k", "GET", "k")
    await until(lambda: valkey.up)
    assert await valkey.call("k", "SET", "k", 1) == b"OK"
    assert valkey.connects == 2


async def test_a_reconnect_to_the_same_server_is_the_same_life(valkey_url):
    lives = []
    valkey = await opened(valkey_url, on_new_life=lives.append)
    life = valkey.life
    valkey._link.abort()
    await until(lambda: not valkey.up)
    await until(lambda: valkey.up)
    assert valkey.life == life
    assert lives == []
    await valkey.close()


async def test_a_restarted_server_is_another_life(valkey_url, servers):
    lives = []
    valkey = await opened(valkey_url, on_new_life=lives.append)
    before = valkey.life
    servers.restart("valkey")
    await until(lambda: not valkey.up)
    await until(lambda: valkey.up)
    assert valkey.life != before
    assert lives == [valkey.life]
    assert await valkey.call("k", "SET", "k", 1) == b"OK"
    await valkey.close()


async def test_nothing_there_to_connect_to_is_valkey_down():
    with pytest.raises(ValkeyDown, match="cannot connect"):
        await opened("unix:///nowhere/valkey.sock")


async def test_a_scheme_that_is_none_of_ours_is_refused():
    with pytest.raises(ValueError, match="scheme"):
        await opened("http://127.0.0.1:6379")


async def test_closing_tells_those_who_wait(valkey_url):
    valkey = await opened(valkey_url)
    waits = valkey.call("list", "BLPOP", "list", 0)
    await valkey.close()
    with pytest.raises(ValkeyDown):
        await waits
    assert not valkey.up


# --- a server that misbehaves, and one over TCP with a password -----------------------------------


class Gate:
    """A door in front of the real server: counts, and may fall silent or answer rubbish."""

    def __init__(self, valkey_url: str) -> None:
        self._path = unquote(urlsplit(valkey_url).path)
        self.is_silent = False
        self.connections = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> "Gate":
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def _pass(self, reader, writer) -> None:
        self.connections += 1
        server_reader, server_writer = await asyncio.open_unix_connection(self._path)
        self._writers += (writer, server_writer)
        await asyncio.gather(self._pump(reader, server_writer), self._pump(server_reader, writer))

    async def _pump(self, reader, writer) -> None:
        try:
            while data := await reader.read(65_536):
                if not self.is_silent:
                    writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    def say(self, data: bytes) -> None:
        """To the client, unasked."""
        self._writers[-2].write(data)


@pytest.fixture
async def gate(valkey_url: str) -> AsyncIterator[Gate]:
    async with Gate(valkey_url) as gate:
        yield gate


async def test_tcp_works_as_the_socket_does(gate):
    valkey = await opened(gate.url)
    assert await valkey.call("k", "SET", "k", 1) == b"OK"
    await valkey.close()


async def test_a_connection_that_died_silently_is_broken_off(gate):
    valkey = await opened(gate.url, timeout_ms=20)
    gate.is_silent = True
    with pytest.raises(ValkeyDown, match="in time"):
        await valkey.call("k", "SET", "k", 1)
    await until(lambda: not valkey.up)
    gate.is_silent = False
    await until(lambda: valkey.up)
    assert gate.connections >= 2
    await valkey.close()


@pytest.mark.parametrize("rubbish", [b"?what\r\n", b"+unasked\r\n"])
async def test_rubbish_and_unasked_replies_break_the_connection(gate, rubbish):
    valkey = await opened(gate.url)
    gate.say(rubbish)
    await until(lambda: valkey.connects == 2)
    assert await valkey.call("k", "SET", "k", 1) == b"OK"
    await valkey.close()


async def test_a_password_is_given_and_a_wrong_one_refused(gate, valkey):
    await valkey.call("", "ACL", "SETUSER", "app", "on", ">right", "~*", "+@all")
    try:
        app = await opened(gate.url.replace("//", "//app:right@") + "/0")
        assert await app.call("", "ACL", "WHOAMI") == b"app"
        await app.close()
        with pytest.raises(ValkeyError):
            await opened(gate.url.replace("//", "//app:wrong@"))
    finally:
        await valkey.call("", "ACL", "DELUSER", "app")
