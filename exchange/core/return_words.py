"""What buyers write for a return reason, and which reason it is.

A phrase is compared as a whole, in lower case, letters and digits alone. What stands in no list is
not guessed, and what may mean two reasons stands in none (a `bad number` is invalid, disconnected
or somebody else's): whoever knows the buyer teaches it, and it is remembered for that buyer.
Phrases that say no more than that nobody was reached, or that the person wants it no longer, are
`no_contact`: known, so that they are refused by name.
"""

from collections.abc import Mapping
from typing import Final

from exchange.core.partner_sheet import words_of
from exchange.core.reasons import ReturnReason

_SAID: Final[dict[ReturnReason, str]] = {
    ReturnReason.INVALID_PHONE: """
        invalid number; invalid phone; invalid phone number; fake number; fake phone; fake phone
        number; number invalid; phone invalid; not a number; not a valid number; number does not
        exist; nonexistent number; non existent number; bogus number
    """,
    ReturnReason.DISCONNECTED: """
        disconnected; disconnect; disc; disconnected number; disconnected phone; number
        disconnected; phone disconnected; out of service; not in service; number not in service;
        number out of service; dead number; dead phone; no longer in service; discon; dc number
    """,
    ReturnReason.WRONG_PERSON: """
        wrong number; wrong person; wrong party; wrong contact; wrong name; not the person; number
        belongs to someone else; wn
    """,
    ReturnReason.NEVER_REQUESTED: """
        never requested; did not request; didn t request; did not inquire; never inquired; didn t
        fill out form; did not fill out form; did not submit; never submitted; no request; did not
        apply; never applied; never filled out a form; denies request; denied inquiry
    """,
    ReturnReason.DUPLICATE: """
        duplicate; dup; dupe; duplicates; duplicate lead; dup lead; dupe lead; already have lead;
        already in system; already in crm; already received; existing lead; have this lead; repeat
        lead
    """,
    ReturnReason.EXISTING_CUSTOMER: """
        existing customer; existing client; already a client; already a customer; current customer;
        current client; already customer; already client; is a customer; is a client; already
        insured with us; existing policyholder; our customer; our client; already our customer;
        already our client
    """,
    ReturnReason.OUT_OF_AREA: """
        out of area; out of territory; outside area; outside territory; wrong state; out of state;
        wrong zip; wrong area; out of footprint; outside service area; out of service area; wrong
        location; not in service area; out of market; wrong zip code
    """,
    ReturnReason.OUTSIDE_CRITERIA: """
        outside criteria; does not meet criteria; doesn t meet criteria; not qualified;
        unqualified; out of criteria; did not qualify; does not qualify; failed filters; outside
        filters; not meeting criteria; criteria not met; wrong product; wrong vertical
    """,
    ReturnReason.UNDER_AGE: "under age; underage; under 18; too young; is a minor",
    ReturnReason.NO_CONSENT: """
        no consent; no tcpa; no tcpa consent; no opt in; not opted in; missing consent; no
        permission; never opted in; did not consent; did not opt in; no trustedform; no jornaya
    """,
    ReturnReason.LITIGATOR_DNC: """
        litigator; tcpa litigator; known litigator; dnc; do not call; on dnc; dnc list; on dnc
        list; serial litigator; blacklist alliance; federal dnc; national dnc; litigant
    """,
    ReturnReason.INCOMPLETE: """
        incomplete; missing data; missing information; missing info; incomplete data; missing
        field; missing fields; incomplete lead; incomplete information; no phone; no phone number
    """,
    ReturnReason.FRAUD: """
        fraud; fake; fake lead; fraudulent; bogus; bogus lead; fake name; prank; spam; bot; fake
        info; fake information; false information; made up; joke; bogus info
    """,
    ReturnReason.LANGUAGE: """
        language; language barrier; spanish; spanish only; no english; does not speak english;
        doesn t speak english; non english; spanish speaker; spanish speaking; wrong language
    """,
    ReturnReason.NO_CONTACT: """
        no contact; no answer; not interested; voicemail; vm; left message; left voicemail; lm;
        unable to contact; unable to reach; could not reach; couldn t reach; no response;
        unresponsive; hung up; hang up; changed mind; already bought; bought elsewhere; no longer
        interested; ni; not reachable; unreachable; busy; line busy; mailbox full; never answered;
        no show; not contacted; does not answer; doesn t answer; just looking; not ready; bad
        timing; price too high
    """,
}  # fmt: skip

PHRASES: Final[dict[str, ReturnReason]] = {
    words_of(phrase): reason
    for reason, said in _SAID.items()
    for phrase in (reason.label, *said.split(";"))
}
"""The trade's phrases, each with its reason."""


def reason_of(text: str, learnt: Mapping[str, ReturnReason]) -> ReturnReason | None:
    """The reason a text names: by what was learnt of the buyer, else by the trade's phrases; `None`
    when it is in neither."""
    words = words_of(text)
    return learnt.get(words) or PHRASES.get(words)
