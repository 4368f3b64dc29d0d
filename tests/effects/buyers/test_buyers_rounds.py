"""Rounds: deadlines, early closes, late answers, limits in flight, warm and half-dead connections,
rest and recovery; and that no buyer costs another anything."""

import asyncio
import random

import pytest

from exchange.core.wire import HttpReply, NoReply, NoReplyKind


def kinds(answers):
    return [answer.kind if isinstance(answer, NoReply) else answer.status for answer in answers]


async def test_a_connection_is_reused_and_nothing_is_dialed_twice(service, house, acts):
    endpoint = house.endpoint(await service.serve(acts.polite))
    for _ in range(5):
        assert kinds(await house.ask(endpoint)) == [200]
    assert (endpoint.stats.connects, endpoint.stats.reused, service.connections) == (1, 4, 1)


async def test_one_buyer_may_be_asked_for_several_contracts_at_once(service, house, acts):
    endpoint = house.endpoint(await service.serve(acts.polite))
    assert kinds(await house.ask(*[endpoint] * 8)) == [200] * 8
    assert endpoint.stats.connects <= 8


async def test_a_round_of_nobody_is_over_at_once(house):
    assert await house.ask() == []


async def test_a_round_without_time_asks_nobody(service, house, acts):
    endpoint = house.endpoint(await service.serve(acts.polite))
    (answer,) = await house.ask(endpoint, within_s=-1)
    assert (answer.kind, answer.sent) == (NoReplyKind.TIMEOUT, False)
    assert service.connections == 0


async def test_a_hanging_buyer_is_a_timeout_at_the_deadline_and_costs_the_others_nothing(
    service, house, acts
):
    hung = house.endpoint(await service.serve(acts.hanging))
    good = house.endpoint(await service.serve(acts.polite))
    loop = asyncio.get_running_loop()
    began = loop.time()
    answers = await house.ask(hung, good, within_s=0.1)
    assert kinds(answers) == [NoReplyKind.TIMEOUT, 200]
    assert answers[0].sent
    assert loop.time() - began >= 0.099
    assert hung.stats.timeouts == 1


async def test_a_late_answer_is_drained_and_its_connection_used_again(service, house, acts):
    may_answer = asyncio.Event()

    async def late(peer):
        await peer.request()
        await may_answer.wait()
        peer.say(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"bid":"99"}')
        await acts.polite(peer)

    endpoint = house.endpoint(await service.serve(late))
    assert kinds(await house.ask(endpoint, within_s=0.05)) == [NoReplyKind.TIMEOUT]
    assert endpoint.stats.in_flight == 1
    may_answer.set()
    await acts.until(lambda: endpoint.stats.late == 1)
    assert endpoint.stats.in_flight == 0
    (answer,) = await house.ask(endpoint)
    assert answer.body == b'{"bid":"1"}'  # its own answer, not the late one
    assert (endpoint.stats.timeouts, service.connections) == (1, 1)


async def test_a_connection_whose_late_answer_never_comes_is_closed(service, house, acts):
    endpoint = house.endpoint(await service.serve(acts.hanging))
    await house.ask(endpoint, within_s=0.05)
    now = asyncio.get_running_loop().time()
    house.buyers.sweep(now + 4.9)
    assert endpoint.stats.in_flight == 1
    house.buyers.sweep(now + 5.1)
    await acts.until(lambda: endpoint.is_quiet)
    assert endpoint.stats.in_flight == 0


async def test_an_early_close_ends_the_round_and_drains_the_rest(service, house, acts):
    may_answer, was_asked = asyncio.Event(), asyncio.Event()

    async def slow(peer):
        await peer.request()
        was_asked.set()
        await may_answer.wait()
        peer.say(acts.OK)
        await peer.gone()

    async def second(peer):
        await was_asked.wait()
        await acts.polite(peer)

    loop = asyncio.get_running_loop()
    slow_one = house.endpoint(await service.serve(slow))
    quick = house.endpoint(await service.serve(second))
    refused = house.endpoint(1, url="ftp://x/")
    began = loop.time()
    answers = await house.ask(slow_one, quick, within_s=5, enough=1)
    assert kinds(answers) == [NoReplyKind.EARLY_CLOSED, 200]
    assert loop.time() - began < 5
    may_answer.set()
    await acts.until(lambda: slow_one.stats.dropped == 1)
    assert slow_one.stats.late == 0
    answers = await house.ask(refused, quick, slow_one, enough=1)
    assert kinds(answers) == [
        NoReplyKind.FORBIDDEN,
        NoReplyKind.EARLY_CLOSED,
        NoReplyKind.EARLY_CLOSED,
    ]
    assert not answers[1].sent


async def test_the_limit_in_flight_answers_busy_and_counts_late_ones(service, house, acts):
    endpoint = house.endpoint(await service.serve(acts.hanging), in_flight_max=2)
    answers = await house.ask(endpoint, endpoint, endpoint, within_s=0.05)
    assert kinds(answers) == [NoReplyKind.TIMEOUT, NoReplyKind.TIMEOUT, NoReplyKind.BUSY]
    assert not answers[2].sent
    assert kinds(await house.ask(endpoint, within_s=0.05)) == [NoReplyKind.BUSY]
    assert (endpoint.stats.busy, service.connections) == (2, 2)


async def test_a_ping_on_a_half_dead_connection_is_asked_once_more(service, house, acts):
    async def dying(peer):
        await peer.request()
        peer.say(acts.OK)
        if peer.number == 1:  # reads the second request, and dies without a byte
            await peer.request()
            peer.reset()
        else:
            await acts.polite(peer)

    endpoint = house.endpoint(await service.serve(dying))
    assert kinds(await house.ask(endpoint)) == [200]
    assert kinds(await house.ask(endpoint)) == [200]
    assert (endpoint.stats.retried, endpoint.stats.connects, endpoint.stats.in_flight) == (1, 2, 0)


async def test_a_ping_is_not_repeated_for_ever(service, house, acts):
    async def dying(peer):
        if peer.number == 1:
            await peer.request()
            peer.say(acts.OK)
        await peer.request()
        peer.reset()

    endpoint = house.endpoint(await service.serve(dying))
    await house.ask(endpoint)
    assert kinds(await house.ask(endpoint)) == [NoReplyKind.RESET]
    assert endpoint.stats.retried == 1


async def test_a_connection_closed_while_idle_is_not_used(service, house, acts):
    async def one_each(peer):
        await peer.request()
        peer.say(acts.OK)
        peer.close()

    endpoint = house.endpoint(await service.serve(one_each))
    for _ in range(3):
        assert kinds(await house.ask(endpoint)) == [200]
        await acts.until(lambda: endpoint.is_quiet)
    assert (endpoint.stats.connects, endpoint.stats.retried) == (3, 0)


async def test_an_endpoint_rests_after_failures_and_one_trial_reopens_it(houses, service, acts):
    house = houses(failures_max=3, rest_s_min=0.05, fair_wait_ms=10)
    listening = await service.serve(acts.polite)
    other = house.endpoint(listening)
    broken = asyncio.Event()

    async def moody(peer):
        while True:
            await peer.request()
            if broken.is_set():
                peer.reset()
                return
            peer.say(acts.OK)

    endpoint = house.endpoint(await service.serve(moody))
    broken.set()
    for _ in range(3):
        assert endpoint.healthy
        assert kinds(await house.ask(endpoint)) == [NoReplyKind.RESET]
    assert not endpoint.healthy
    assert not house.buyers.is_healthy(endpoint.key)
    assert kinds(await house.ask(endpoint, other)) == [NoReplyKind.RESTING, 200]
    broken.clear()
    await acts.until(lambda: endpoint.healthy)
    answers = await house.ask(endpoint, endpoint)  # one trial, not two
    assert kinds(answers) == [200, NoReplyKind.RESTING]
    assert kinds(await house.ask(endpoint, endpoint)) == [200, 200]


async def test_silence_in_a_round_too_short_to_be_fair_is_not_held_against_a_buyer(
    houses, service, acts
):
    house = houses(failures_max=1, fair_wait_ms=10_000)
    endpoint = house.endpoint(await service.serve(acts.hanging))
    await house.ask(endpoint, within_s=0.02)
    assert endpoint.healthy


async def test_an_exception_of_the_caller_is_raised_to_it_after_all_have_answered(
    service, house, acts
):
    endpoint = house.endpoint(await service.serve(acts.polite))
    calls = []

    def on_answer(index, answer, waited_ms):
        calls.append(index)
        raise KeyError("a bug")

    loop = asyncio.get_running_loop()
    with pytest.raises(KeyError, match="a bug"):
        await house.buyers.ask(
            [(endpoint, b""), (endpoint, b"")], deadline=loop.time() + 2, on_answer=on_answer
        )
    assert sorted(calls) == [0, 1]
    assert kinds(await house.ask(endpoint)) == [200]


async def test_changed_settings_make_a_new_endpoint_and_the_same_ones_do_not(service, house, acts):
    port = await service.serve(acts.polite)
    first = house.endpoint(port, key="a")
    await house.ask(first)
    assert house.endpoint(port, key="a", in_flight_max=3) is first
    assert first.in_flight_max == 3
    second = house.endpoint(port, key="a", headers={"X-New": "1"})
    assert second is not first
    assert kinds(await house.ask(first, second)) == [200, 200]  # who still holds it may still ask
    await acts.until(lambda: first.is_quiet)
    house.buyers.retire(["a", "b"])
    await acts.until(lambda: second.is_quiet)
    assert house.buyers.stats() == {}


async def test_closing_waits_for_the_rounds_under_way(houses, service, acts):
    may_answer = asyncio.Event()

    async def slow(peer):
        await peer.request()
        may_answer.set()
        peer.say(acts.OK)
        await peer.gone()

    house = houses()
    endpoint = house.endpoint(await service.serve(slow))
    round_ = asyncio.create_task(house.ask(endpoint))
    await may_answer.wait()
    await house.buyers.close()
    assert kinds(await round_) == [200]
    assert endpoint.is_quiet


async def test_old_and_unused_connections_are_closed(houses, service, acts):
    house = houses(ping_idle_s=30, connection_age_s=0)
    aged = house.endpoint(await service.serve(acts.polite))
    await house.ask(aged)
    await house.ask(aged)
    house = houses(ping_idle_s=30)
    idle = house.endpoint(await service.serve(acts.polite))
    await house.ask(idle)
    now = asyncio.get_running_loop().time()
    house.buyers.sweep(now + 29)
    assert not idle.is_quiet
    house.buyers.sweep(now + 31)
    await acts.until(lambda: idle.is_quiet)


async def test_twenty_buyers_of_mixed_behaviour_cost_each_other_nothing(
    houses, service, acts, seed
):
    """Every round: the good ones answer 200, every call is answered once, the deadline holds."""

    async def resetting(peer):
        await peer.request()
        peer.reset()

    async def dripping(peer):
        await peer.request()
        for letter in acts.OK * 100:
            peer.say(bytes([letter]))
            await asyncio.sleep(0)

    async def closing(peer):
        peer.close()

    large = b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 200_000
    bad = [
        acts.hanging,
        resetting,
        dripping,
        closing,
        acts.answering(large),
        acts.answering(b"\x00" * 1000),
        acts.answering(b"HTTP/1.1 302 x\r\nLocation: /\r\n\r\n"),
        acts.answering(b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n"),
    ]
    house = houses(reply_bytes_max=1_000, failures_max=4, rest_s_min=0.05, fair_wait_ms=10)
    chance = random.Random(seed)
    is_good = [chance.random() < 0.5 for _ in range(20)]
    endpoints = [
        house.endpoint(await service.serve(acts.polite if good else chance.choice(bad)))
        for good in is_good
    ]
    loop = asyncio.get_running_loop()
    for _ in range(10):
        began = loop.time()
        answers = await house.ask(*endpoints, within_s=0.2)
        assert loop.time() - began < 0.2 + 0.15  # 2 shared cores; the promise is measured by bench
        good_ones = [a for a, good in zip(answers, is_good, strict=True) if good]
        assert all(isinstance(answer, HttpReply) and answer.status == 200 for answer in good_ones)
        assert len(answers) == 20
