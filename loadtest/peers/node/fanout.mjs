// The bare fan-out on Node: node:http in front, an undici pool per buyer behind, one deadline per
// auction.
//
//   node fanout.mjs --ports 8001,8002 [--tmax-ms 1500]
//
// For every POST it asks all buyers over kept-alive connections and answers the best bid. It is not
// slowed on purpose: no framework, no limit of connections, undici's lowest interface (`dispatch`,
// a fifth cheaper here than `request` with an abort signal), one timer for all of a round.
import { createServer } from 'node:http'
import { parseArgs } from 'node:util'
import { Pool } from 'undici'

const REPLY_BYTES_MAX = 64 * 1024

const { values } = parseArgs({
  options: { ports: { type: 'string' }, 'tmax-ms': { type: 'string', default: '1500' } }
})
const tmaxMs = Number(values['tmax-ms'])
const headers = { 'content-type': 'application/json' }
const pools = values.ports.split(',').map(
  (port) => new Pool(`http://127.0.0.1:${port}`, { pipelining: 1, keepAliveTimeout: 75_000 })
)

/** A decimal such as "12.5" in millionths, exact; NaN when it is none. */
function micros (text) {
  const dot = text.indexOf('.')
  if (dot < 0) return Number(text) * 1e6
  const part = text.slice(dot + 1)
  return part.length > 6 ? NaN : Number(text.slice(0, dot) + part) * 10 ** (6 - part.length)
}

/** One auction: resolves to the best bid's text, or null. */
class Auction {
  constructor (body, resolve) {
    this.resolve = resolve
    this.asks = pools.map((pool) => new Ask(this, pool, body))
    this.open = this.asks.length
    this.best = null
    this.bestValue = -1
    this.timer = setTimeout(() => this.end(), tmaxMs)
    for (const ask of this.asks) ask.send()
  }

  bid (text) {
    const value = micros(text)
    if (value > this.bestValue) [this.best, this.bestValue] = [text, value]
  }

  answered () {
    if (--this.open === 0) this.end()
  }

  end () {
    clearTimeout(this.timer)
    this.resolve(this.best)
    if (this.open > 0) for (const ask of this.asks) ask.abort()
  }
}

/** One buyer asked, as undici's handler. */
class Ask {
  constructor (auction, pool, body) {
    this.auction = auction
    this.pool = pool
    this.options = { path: '/ping', method: 'POST', headers, body }
    this.controller = null
    this.parts = []
    this.bytes = 0
    this.status = 0
    this.isOver = false
  }

  send () {
    this.pool.dispatch(this.options, this)
  }

  abort () {
    if (this.isOver) return
    this.isOver = true
    if (this.controller !== null) this.controller.abort(new Error('deadline'))
  }

  onRequestStart (controller) {
    this.controller = controller
    if (this.isOver) controller.abort(new Error('deadline'))
  }

  onResponseStart (controller, status) {
    this.status = status
  }

  onResponseData (controller, part) {
    this.bytes += part.length
    if (this.bytes > REPLY_BYTES_MAX) controller.abort(new Error('too large'))
    else this.parts.push(part)
  }

  onResponseEnd () {
    if (this.isOver) return
    this.isOver = true
    if (this.status === 200) {
      try {
        const { parts } = this
        this.auction.bid(JSON.parse(parts.length === 1 ? parts[0] : Buffer.concat(parts)).bid)
      } catch {
        // no bid
      }
    }
    this.auction.answered()
  }

  onResponseError () {
    if (this.isOver) return
    this.isOver = true
    this.auction.answered()
  }
}

const server = createServer((request, response) => {
  if (request.method !== 'POST' || request.url !== '/ping') {
    response.writeHead(404, { 'Content-Length': 0 }).end()
    return
  }
  const parts = []
  request.on('data', (part) => parts.push(part))
  request.on('end', async () => {
    const body = parts.length === 1 ? parts[0] : Buffer.concat(parts)
    const bid = await new Promise((resolve) => new Auction(body, resolve))
    const reply = JSON.stringify({ bid })
    response.writeHead(200, {
      'Content-Type': 'application/json',
      'Content-Length': Buffer.byteLength(reply)
    })
    response.end(reply)
  })
})
server.keepAliveTimeout = 75_000
server.listen(0, '127.0.0.1', 1024, () => {
  console.log(JSON.stringify({ pid: process.pid, port: server.address().port }))
})
