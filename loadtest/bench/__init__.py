"""`make bench`: what a ping and a sale cost, measured on the whole exchange.

| module | what |
|---|---|
| `__main__` | the command line: runs the measures, writes `bench.json` and `bench.svg`, prints |
| `stage` | what runs meanwhile: exchanges, buyers, peers, each started when first asked for |
| `measures` | rounds of CPU and latency of a ping, and of a sale |
| `growth` | the same as the market and the workers grow |
| `footprint` | memory, and time to start |
| `pieces`, `pieces_probe` | reserve, commit, journal, dialect, custody; eligibility |
| `profile` | where a ping's CPU time goes, from a sampling profile |
| `figures` | which figures are shown, budgeted and compared, and by how much they are noisy |
| `compare` | what moved beyond noise between two runs |
| `plot`, `tables` | the figures as a drawing and as text |
| `market`, `changes` | the generated market, and the probe that changes it |
| `loads`, `processes`, `peers`, `machine` | loads and logs; processes; how peers are made; where |

The exchange is never imported: it is started by its command, as an operator starts it.
"""
