// What the recorded commands met outside themselves: NODE_OPTIONS=--require=…/switchboard.cjs
//   REPLAY_PORTS  {"8089": 7701, …}: where a port of the recordings is now
//   REPLAY_LOG    a file that gets "METHOD PATH" of every request
//   GUARD_MAP     names that were answered locally, as recorded: "api.heroku.com=127.0.0.1,…"
// Any other name but localhost's is refused in the words of the recordings: nothing leaves here.
const dns = require('node:dns')
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')

const ports = JSON.parse(process.env.REPLAY_PORTS)
const mapped = new Map((process.env.GUARD_MAP ?? '').split(',').map((pair) => pair.split('=')))
const isLocal = (name) => name === 'localhost' || name.startsWith('127.0.0.1')

const lookup = dns.lookup
dns.lookup = (name, options, done) => {
  if (typeof options === 'function') [options, done] = [{}, options]
  if (mapped.has(name)) return lookup(mapped.get(name), options, done)
  if (name === 'localhost') return lookup('127.0.0.1', options, done)
  if (isLocal(name)) return lookup(name, options, done)
  const error = new Error(`getaddrinfo EBLOCKED ${name} (lab guard)`)
  process.nextTick(done, Object.assign(error, { code: 'ENETUNREACH' }))
}

const connect = net.Socket.prototype.connect
net.Socket.prototype.connect = function (...words) {
  const normalized = Array.isArray(words[0])
  const options = normalized ? words[0][0] : words[0]
  if (ports[options?.port]) {
    const here = { ...options, port: ports[options.port] }
    if (normalized) words[0][0] = here
    else words[0] = here
  }
  return connect.apply(this, words)
}

const storeHeader = http.OutgoingMessage.prototype._storeHeader
http.OutgoingMessage.prototype._storeHeader = function (firstLine, headers) {
  if (firstLine.endsWith(' HTTP/1.1\r\n') && !firstLine.startsWith('CONNECT ')) {
    fs.appendFileSync(process.env.REPLAY_LOG, firstLine.replace(' HTTP/1.1\r\n', '\n'))
  }
  return storeHeader.call(this, firstLine, headers)
}
