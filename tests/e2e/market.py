"""The market of the end-to-end tests: one vertical per question, all with the same fields, so that
a test has its contracts for itself.
"""

import json
from collections.abc import Mapping
from typing import Any

FIELDS: dict[str, dict[str, Any]] = {
    "zip": {"type": "us_zip", "ping": True, "required": True},
    "age": {"type": "int", "min": 16, "max": 99, "ping": True, "required": True},
    "insured": {"type": "bool", "ping": True},
    "plan": {"type": "enum", "values": ["basic", "full"], "ping": True},
    "born": {"type": "date", "ping": True},
    "campaign": {"type": "code", "pattern": "[A-Za-z0-9@.+-]{1,32}", "ping": True},
    "veteran": {"type": "bool"},
    "notes": {"type": "text", "length_max": 200},
    "first_name": {"type": "name", "personal": True, "required": True},
    "phone": {"type": "us_phone", "personal": True, "ping": "pseudonym", "required": True},
    "email": {"type": "email", "personal": True},
}
TCPA = {"currency": "USD", "consent": "tcpa", "fields": FIELDS}
FREE = {"currency": "USD", "consent": "none", "fields": FIELDS}

VERTICALS = {
    "ladder": TCPA,
    "crowd": TCPA,
    "fixed": TCPA,
    "capped": TCPA,
    "held": TCPA,
    "by_state": TCPA,
    "once": TCPA | {"duplicate": {"fields": ["phone"], "window_days": 30}},
    "named": TCPA | {"consent": "named"},
    "free": FREE,
    "veterans": TCPA,
    "brake": TCPA,
    "tls": TCPA,
    "test_only": TCPA,
    "empty": TCPA,
    "returned": TCPA,
}
ALPHA = {
    "web": {},
    "watching": {"gate": "watch"},
    "refusing": {"gate": "refuse"},
    "dear": {"floor": "12.00"},
    "paused": {"paused": True},
    "promised": {"payout": {"fixed": "5.00", "guaranteed": True, "loss_max": "1.00"}},
}
SELLERS = {
    "alpha": {"margin": {"percent": 10}, "sources": ALPHA, "rate_per_s": 2_000},
    "gamma": {
        "margin": {"percent": 10},
        "sources": ["web"],
        "clawback": {"window_hours": 48},
        "rate_per_s": 2_000,
    },
    "beta": {"margin": {"percent": 10}, "sources": ["web"], "rate_per_s": 2_000},
    "slow": {"margin": {"percent": 10}, "sources": ["web"], "rate_per_s": 2},
}
CONTRACTS: dict[str, dict[str, Any]] = {
    "acme-ladder": {"vertical": "ladder"},
    "beacon-ladder": {"vertical": "ladder"},
    "cedar-ladder": {"vertical": "ladder"},
    "kestrel-crowd": {"vertical": "crowd", "in_doubt": {"inquire_every_s": 1}},
    "acme-crowd": {"vertical": "crowd"},
    "beacon-crowd": {"vertical": "crowd"},
    "delta-fixed": {"vertical": "fixed", "price": "18.00"},
    "ember-capped": {"vertical": "capped", "caps": [{"leads": 2, "per": "total"}]},
    "falcon-capped": {"vertical": "capped"},
    "ember-held": {
        "vertical": "held",
        "caps": [{"leads": 1, "per": "total"}],
        "hold": "offer",
        "in_doubt": {"policy": ["hold_as_sold"], "hold_s": 600},
    },
    "falcon-held": {"vertical": "held"},
    "ember-by-state": {
        "vertical": "by_state",
        "caps": [{"leads": 1, "per": "total", "each": "state"}],
    },
    "acme-once": {"vertical": "once"},
    "acme-named": {"vertical": "named"},
    "beacon-named": {"vertical": "named"},
    "cedar-named": {"vertical": "named"},
    "acme-free": {"vertical": "free"},
    "acme-veterans": {"vertical": "veterans", "where": {"veteran": True}},
    "beacon-veterans": {"vertical": "veterans"},
    "juniper-brake": {"vertical": "brake", "in_doubt": {"inquire_every_s": 1}},
    "iris-brake": {"vertical": "brake"},
    "lumen-tls": {"vertical": "tls"},
    "expired-tls": {"vertical": "tls"},
    "granite-test": {"vertical": "test_only"},
    "delta-returned": {
        "vertical": "returned",
        "time_zone": "America/Chicago",
        "returns": {
            "window_hours": 48,
            "max_rate": 1.0,
            "reasons": {
                "wrong_person": {"to_person": False},
                "fraud": {"to_person": True},
                "no_consent": {},
                "existing_customer": {},
            },
        },
    },
}
POST_TIMEOUT_MS = 700
"""How long a buyer may take for a post: the tests wait for it."""


def market_text(
    sim: Mapping[str, Any],
    *,
    contracts: Mapping[str, Mapping[str, Any]] | None = None,
    sellers: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """The market as TOML, its buyers where `sim` plays them; `contracts` and `sellers` are laid
    over those of the same key."""
    lines: list[str] = []
    for key, terms in VERTICALS.items():
        lines += table(("verticals", key), terms)
    for key, terms in laid_over(SELLERS, sellers).items():
        lines += table(("sellers", key), terms)
    for key in sim["buyers"]:
        lines += table(("buyers", key), _buyer(key, sim))
    for key, terms in laid_over(CONTRACTS, contracts).items():
        buyer = {"buyer": key.partition("-")[0]}
        lines += table(("contracts", key), buyer | dict(terms))
    return "\n".join(lines) + "\n"


def laid_over(
    base: Mapping[str, Mapping[str, Any]], change: Mapping[str, Mapping[str, Any]] | None
) -> dict[str, dict[str, Any]]:
    changes = change or {}
    return {key: {**base.get(key, {}), **changes.get(key, {})} for key in (*base, *changes)}


def _buyer(key: str, sim: Mapping[str, Any]) -> dict[str, Any]:
    url = sim["urls"][key]
    terms = {
        "name": key.capitalize() + " Inc",
        "time_zone": "America/New_York",
        "post_timeout_ms": POST_TIMEOUT_MS,
        "ping_url": f"{url}/ping",
        "post_url": f"{url}/post",
        "status_url": f"{url}/status",
    }
    if url.startswith("https"):
        terms["tls_ca"] = sim["ca"]
    if key == "granite":
        terms["test"] = True
    return terms


def table(path: tuple[str, ...], terms: Mapping[str, Any]) -> list[str]:
    return [
        "[" + ".".join(path) + "]",
        *(f"{key} = {toml(value)}" for key, value in terms.items()),
    ]


def toml(value: Any) -> str:
    """A value on one line of TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(one) for one in value) + "]"
    return json.dumps(value)
