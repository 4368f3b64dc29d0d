"""A load on the exchange: seeded leads at their scheduled times, each answer checked, and a page
that says what the exchange would carry.

    shapes      pure: the phases of a load and the times at which leads are due
    market      what a load needs to know of a market file
    people      seeded consumers
    mix         which kinds of leads come, in which shares
    replies     pure: what an answer to each kind of input must look like
    sellers     the journey of one lead: ping, post, direct, retry, look-up
    notes       one line per request, one document per run
    sampling    a process beside the load: the exchange's metrics and everybody's CPU, every second
    figures     notes and samples -> the figures of the report
    verdict     the figures against the budget, in words
    plots, page the report as one HTML file
    grounds     the exchange, its servers and its buyers, started for a load
    troubles    what strikes in a phase: buyers hang, Valkey dies, the market changes

`loadtest/locustfile.py` plays it with Locust; `python -m loadtest.load` brings its own exchange.
Only the locustfile knows Locust and gevent.
"""
