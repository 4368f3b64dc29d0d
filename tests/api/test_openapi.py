"""The OpenAPI document and the page made of it, from a small table of calls."""

import re
from html.parser import HTMLParser
from typing import Annotated, Any, Literal

import msgspec
import pytest
import schemathesis

from exchange.api.docs import page
from exchange.api.openapi import PROBLEM_TITLES, document
from exchange.api.routes import Parameter, Route


class Sold(msgspec.Struct):
    """A sale, as its seller sees it."""

    payout: Annotated[str, msgspec.Meta(description="A decimal.", pattern=r"^\d+\.\d{2,6}$")]
    buyer: str | None = None


class Reply(msgspec.Struct):
    """What became of the lead."""

    lead_id: str
    status: Literal["sold", "unsold"]
    sales: tuple[Sold, ...] = ()


class Lead(msgspec.Struct, forbid_unknown_fields=True):
    """A <full> record.

    Sent once."""

    vertical: str
    lead: dict[str, str | int | bool]
    tmax_ms: Annotated[int, msgspec.Meta(ge=50, le=30_000)] | None = None


class Problem(msgspec.Struct):
    """Problem details (RFC 9457)."""

    type: str
    title: str
    status: int


ROUTES = (
    Route(
        method="POST",
        path="/v1/leads",
        operation="sell_lead",
        summary="Sell a lead at once.",
        role="seller",
        description="First words.\n\nThen <more>.",
        parameters=(
            Parameter(name="Idempotency-Key", place="header", description="Yours.", required=True),
        ),
        request=Lead,
        response=Reply,
        problems=(400, 401, 422),
        request_example=Lead(vertical="auto", lead={"name": "O'Neil"}),
        response_example={"lead_id": "1", "status": "unsold"},
    ),
    Route(
        method="GET",
        path="/v1/leads/{lead_id}",
        operation="read_lead",
        summary="What became of a lead.",
        role="seller",
        parameters=(Parameter(name="full", place="query", description="All of it.", type=bool),),
        response=Reply,
        problems=(404,),
    ),
    Route(
        method="GET",
        path="/healthz",
        operation="health",
        summary="Whether the process runs.",
        role=None,
        response=str,
        media_type="text/plain",
    ),
)


def made(routes: tuple[Route, ...] = ROUTES) -> dict[str, Any]:
    return document(routes, version="1.2.3", problem=Problem, description="How to sell.")


def refs(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [ref for value in node.values() for ref in refs(value)]
    return [ref for value in node for ref in refs(value)] if isinstance(node, list) else []


def test_every_reference_resolves_and_every_type_is_described() -> None:
    made_document = made()
    schemas = made_document["components"]["schemas"]
    found = refs(made_document)
    assert found
    assert {ref.removeprefix("#/components/schemas/") for ref in found} == set(schemas)
    assert all(schema["description"] for schema in schemas.values())


def test_the_document_says_what_the_route_says() -> None:
    operation = made()["paths"]["/v1/leads"]["post"]
    assert operation["operationId"] == "sell_lead"
    assert operation["security"] == [{"key": []}]
    assert operation["x-role"] == "seller"
    assert operation["parameters"][0]["in"] == "header"
    body = operation["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/Lead"}
    assert body["example"]["lead"] == {"name": "O'Neil"}
    assert set(operation["responses"]) == {"200", "400", "401", "422"}
    problem = operation["responses"]["422"]
    assert problem["description"] == PROBLEM_TITLES[422]
    assert list(problem["content"]) == ["application/problem+json"]


def test_what_stands_in_a_path_is_a_parameter_without_being_named_again() -> None:
    operation = made()["paths"]["/v1/leads/{lead_id}"]["get"]
    assert [(p["name"], p["in"], p["required"]) for p in operation["parameters"]] == [
        ("lead_id", "path", True),
        ("full", "query", False),
    ]


def test_anyone_may_make_a_call_without_a_role() -> None:
    assert made()["paths"]["/healthz"]["get"]["security"] == []


def test_schemathesis_takes_the_document_for_a_valid_one() -> None:
    schema = schemathesis.openapi.from_dict(made())
    schema.validate()
    called = {
        f"{found.ok().method.upper()} {found.ok().path}" for found in schema.get_all_operations()
    }
    assert called == {f"{route.method} {route.path}" for route in ROUTES}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"operation": "read_lead"}, "operation stands twice"),
        ({"operation": "other", "path": "/healthz"}, "call stands twice"),
        ({"operation": "other", "path": "/x", "problems": (418,)}, "no sentence for problem"),
    ],
)
def test_a_faulty_table_makes_no_document(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        made((*ROUTES, msgspec.structs.replace(ROUTES[2], **change)))


# --- the page -------------------------------------------------------------------------------------


class Seen(HTMLParser):
    """What a page links to, loads, and shows; and whether its tags close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in {"meta", "br", "link"}:
            self.open.append(tag)
        for name, value in attributes:
            assert name not in {"src", "style", "onclick"}, f"{tag} {name}"
            if name == "id":
                assert value not in self.ids, value
                self.ids.add(value or "")
            if name == "href":
                self.links.add(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    html = page(made())
    seen = Seen(html)
    assert not seen.tags & {"script", "link", "img", "iframe", "object"}
    assert not re.search(r"https?://|@import|url\(", html)


def test_the_page_links_only_to_what_stands_on_it() -> None:
    seen = Seen(page(made()))
    assert seen.open == []
    inside = {link.removeprefix("#") for link in seen.links if link.startswith("#")}
    assert inside <= seen.ids
    assert seen.links - {f"#{name}" for name in inside} == {"/openapi.json"}
    assert {route.operation for route in ROUTES} <= seen.ids


def test_the_page_shows_calls_fields_examples_and_problems_as_text() -> None:
    text = Seen(page(made())).text
    assert "Then <more>." in text
    assert "A <full> record." in text
    assert "at least 50, at most 30000" in text
    assert "list of Sold" in text
    assert "curl -sS -X POST $EXCHANGE/v1/leads" in text
    assert """'{\n  "vertical": "auto",\n  "lead": {\n    "name": "O'"'"'Neil"\n  }""" in text
    assert '-H "Idempotency-Key: ..."' in text
    assert PROBLEM_TITLES[422].replace("`", "") in text
