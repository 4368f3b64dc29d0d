"""The bench's drawing: well-formed, complete in itself, and drawn of as much as was measured."""

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from loadtest.bench.plot import drawn

SVG = "{http://www.w3.org/2000/svg}"
HEAD = {"at": "2026-01-01T00:00:00+00:00", "machine": {"cores": '2 x <Core> & "friends"'}}
PEERS = {
    "aiohttp": {"cpu_us": 800.0},
    "fastapi_httpx": {"cpu_us": 15_000.0},
    "go": {"cpu_us": 200.0},
    "nginx_lua": {"cpu_us": 90.0},
}
GROWTH = {
    "invited": {
        str(count): {"cpu_us": 50.0 + count, "go_cpu_us": 30.0 + count, "bids": count}
        for count in (1, 5, 10, 20, 50)
    },
    "contracts": {"1000": {"cpu_us": 300.0}, "10000": {"cpu_us": 310.0}},
    "sellers": {"1": {"cpu_us": 300.0}, "1001": {"cpu_us": 301.0}},
    "changes": {"0": {"cpu_us": 400.0}, "1": {"cpu_us": 420.0}, "5": {"cpu_us": 500.0}},
}
WHOLE = {**HEAD, "ping": {"cpu_us": 300.0}, "peers": PEERS, "growth": GROWTH}


def words(document: dict[str, Any]) -> str:
    return " | ".join(one.text or "" for one in ET.fromstring(drawn(document)).iter(f"{SVG}text"))


def test_a_drawing_is_valid_xml_that_asks_for_nothing_elsewhere() -> None:
    text = drawn(WHOLE)
    root = ET.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert {one.tag.removeprefix(SVG) for one in root.iter()} == {
        "svg", "rect", "text", "line", "polyline", "circle",
    }  # fmt: skip
    assert not {"href", "src", "style"} & {name for one in root.iter() for name in one.attrib}
    assert text.replace("http://www.w3.org/2000/svg", "").count("://") == 0


def test_every_peer_has_a_bar_and_the_exchanges_share_of_it() -> None:
    said = words(WHOLE)
    for title in ("Go, net/http", "nginx, Lua", "FastAPI, httpx", "aiohttp client, gather"):
        assert title in said
    assert "200 us; the exchange costs 1.5 of that" in said
    assert "15,000 us; the exchange costs 0.02 of that (cut)" in said


def test_every_size_that_was_measured_is_a_point() -> None:
    points = list(ET.fromstring(drawn(WHOLE)).iter(f"{SVG}circle"))
    assert len(points) == 2 * 5 + 2 + 2 + 3


LETTER = 6.6
"""A wide letter of the drawing's usual size."""


def test_nothing_is_drawn_outside_the_drawing() -> None:
    root = ET.fromstring(drawn(WHOLE))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for one in root.iter():
        if one.attrib.get("text-anchor") == "start":
            assert float(one.attrib["x"]) + LETTER * len(one.text or "") <= width, one.text
        for name, most in (("x", width), ("cx", width), ("y", height), ("cy", height)):
            assert 0 <= float(one.attrib.get(name, 0)) <= most, one.attrib


@pytest.mark.parametrize(
    "document", [HEAD, {**HEAD, "growth": {"changes": {"0": {"cpu_us": 0.0}}}}]
)
def test_a_run_of_one_measure_is_drawn_too(document: dict[str, Any]) -> None:
    assert ET.fromstring(drawn(document)).tag == f"{SVG}svg"
