"""Simulated buyers over real HTTP: the other side of the trade, and the judge of the exchange.

They read the house dialect on their own (nothing here imports `exchange`), behave as a profile and
a seed say, and keep their own truth: every buyer appends what it received and what it answered to
`<truth-dir>/<buyer>.jsonl` before it answers. Caps, double sales and leaks are judged from those
files and from what sellers were told; the exchange's database is the accused, never the witness.

    profile        how buyers behave: latency, bids, shares of every fault (TOML)
    chance         numbers drawn from seed + buyer + id, so arrival order changes nothing
    plans          pure: one request -> what is answered, when, and in which (odd) manner
    answers        the bytes of answers, good and malformed
    buyer          one buyer: its rules in force, its books, its truth file
    server         HTTP on raw transports (resets, drips and half answers need the socket itself)
    signing        Standard Webhooks signatures, verified
    certificates   a CA, a good certificate and an expired one
    events         one line of a truth file
    forms          every form in which a piece of personal data could leak
    truth          readers of truth files: accepted leads, leaks
    judge          the checks of a run, from truth files and what sellers were told
"""
