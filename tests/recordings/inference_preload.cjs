// Lets @heroku/plugin-ai call an Annex on plain HTTP and a port of its own: the plugin takes the
// URL for the name of a host and always speaks HTTPS to its port 443.
//     NODE_OPTIONS=--require=…/inference_preload.cjs
const http = require('node:http')
const https = require('node:https')

const request = https.request
https.request = (options, ...rest) => {
  if (!options?.host?.startsWith?.('http://')) return request(options, ...rest)
  const { hostname, port } = new URL(options.host)
  const plain = { ...options, protocol: 'http:', host: hostname, hostname, port, agent: undefined }
  return http.request(plain, ...rest)
}
