# The reference of /v1/embeddings, under "Examples".
eval $(heroku config -a $APP_NAME --shell | grep '^EMBEDDING_' | sed 's/^/export /' | tee >(cat >&2))

curl $EMBEDDING_URL/v1/embeddings \
  -H "Authorization: Bearer $EMBEDDING_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "cohere-embed-multilingual",
    "input": [
      "What is the capital of France?",
      "Paris is the capital of France."
    ],
    "input_type": "search_document"
  }'
