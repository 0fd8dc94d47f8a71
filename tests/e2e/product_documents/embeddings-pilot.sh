# "Managed Inference and Agent API /v1/embeddings", the pilot's article of 15 January 2025.
# If you're developing locally, run this to set your config vars as ENV variables.
eval $(heroku config -a $APP_NAME --shell | grep '^EMBEDDING_' | sed 's/^/export /' | tee >(cat >&2))

curl $EMBEDDING_URL/v1/embeddings \
 -H "Authorization: Bearer $EMBEDDING_KEY" \
 -d @- <<EOF
{
  "model": "$EMBEDDING_MODEL_ID",
  "input": "Hello, I am a long string (document) and I want to be turned into a searchable embedding vector! What fun!"
}
EOF
