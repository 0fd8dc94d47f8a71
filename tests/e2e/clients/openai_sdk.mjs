// The openai npm package, with nothing set but base URL and key.

import assert from 'node:assert/strict'
import OpenAI from 'openai'

const { EMBEDDING_URL: url, EMBEDDING_KEY: apiKey, EMBEDDING_MODEL_ID: model } = process.env
const baseURL = `${url}/v1`
const input = ['The quick brown fox', 'jumps over the lazy dog', 'Füchse springen über Hunde']
const client = new OpenAI({ baseURL, apiKey })

const length = (vector) => Math.hypot(...vector)
const distance = (one, other) => Math.hypot(...one.map((value, index) => value - other[index]))

// Without an encoding_format this package asks for base64, and decodes whatever it gets.
const packed = await client.embeddings.create({ model, input })
assert.deepEqual(packed.data.map((item) => item.index), [0, 1, 2])
assert.equal(packed.model, model)
for (const { embedding } of packed.data) {
  assert.equal(embedding.length, 384)
  assert.ok(Math.abs(length(embedding) - 1) < 1e-3)
}
assert.ok(packed.usage.prompt_tokens > input.length)
assert.equal(packed.usage.total_tokens, packed.usage.prompt_tokens)

const numbers = await client.embeddings.create({ model, input, encoding_format: 'float' })
for (const [index, { embedding }] of numbers.data.entries()) {
  assert.ok(distance(embedding, packed.data[index].embedding) < 1e-5)
}

const answers = await Promise.all(input.map((text) => client.embeddings.create({ model, input: text })))
for (const [index, answer] of answers.entries()) {
  assert.ok(distance(answer.data[0].embedding, packed.data[index].embedding) < 1e-5)
}

const cut = await client.embeddings.create({ model: 'cohere-embed-v4', input, dimensions: 256 })
for (const { embedding } of cut.data) {
  assert.equal(embedding.length, 256)
  assert.ok(Math.abs(length(embedding) - 1) < 1e-3)
}

const ids = []
for await (const listed of client.models.list()) ids.push(listed.id)
assert.ok(ids.includes(model))

await assert.rejects(client.embeddings.create({ model: 'no-such-model', input }), (error) => {
  assert.ok(error instanceof OpenAI.NotFoundError)
  assert.equal(error.code, 'model_not_found')
  return true
})
await assert.rejects(client.embeddings.create({ model, input: Array(97).fill('word') }), (error) => {
  assert.ok(error instanceof OpenAI.BadRequestError)
  assert.equal(error.param, 'input')
  return true
})
const stranger = new OpenAI({ baseURL, apiKey: 'inf_wrong' })
await assert.rejects(stranger.embeddings.create({ model, input }), OpenAI.AuthenticationError)
