# "Managed Inference and Agents API with Cohere Embed V4", last updated 19 February 2026.
heroku addons:create heroku-inference:standard -a $APP_NAME

export INFERENCE_KEY=$(heroku config:get -a $APP_NAME INFERENCE_KEY)
export INFERENCE_URL=$(heroku config:get -a $APP_NAME INFERENCE_URL)

curl $INFERENCE_URL/v1/embeddings \
 -H "Authorization: Bearer $INFERENCE_KEY" \
 -d @- <<EOF
{
  "input": ["Hello, I am a blob of text.", "How's the weather in Portland?"],
  "model": "cohere-embed-v4",
  "input_type": "search_document",
  "encoding_format": "raw"
}
EOF
