# The reference of /v1/embeddings, at the top; the test puts its host and key in place of
# https://us.inference.heroku.com and <token>.
curl --request POST \
  --url https://us.inference.heroku.com/v1/embeddings \
  --header 'Authorization: Bearer <token>' \
  --header 'Content-Type: application/json' \
  --data '
{
  "model": "cohere-embed-multilingual",
  "input": [
    "What is the capital of France?",
    "Paris is the capital of France."
  ],
  "input_type": "search_document"
}
'
