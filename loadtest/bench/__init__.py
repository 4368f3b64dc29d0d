"""`make bench`: what a ping and a sale cost, measured on the whole exchange.

| module | what |
|---|---|
| `__main__` | the command line: runs everything, judges, prints, writes `bench.json` |
| `market` | the generated market, its pings and its posts |
| `processes` | the exchange, the buyers and the baseline as processes of their own |
| `measures` | one function per measurement; each answers plain figures |
| `profile` | where a ping's CPU time goes, from a sampling profile |
| `budgets` | what each figure may be at most |
| `changes` | the probe that changes the market every second |

The exchange is never imported: it is started by its command, as an operator starts it.
"""
