"""boto3's SageMaker runtime, unmodified: base URL and key are in the environment, as AWS_*."""

import json
from typing import Any

import boto3
from attachment import MODEL, TEXTS, is_unit, refusal
from botocore.exceptions import ClientError

client = boto3.client("sagemaker-runtime")
body = {"texts": TEXTS, "input_type": "search_document", "embeddings_type": ["float", "ubinary"]}
answer = client.invoke_endpoint(
    EndpointName=MODEL, ContentType="application/json", Body=json.dumps(body)
)
embeddings = json.loads(answer["Body"].read())["embeddings"]
assert answer["ContentType"] == "application/json"
assert len(embeddings["float"]) == len(embeddings["ubinary"]) == len(TEXTS)
assert all(is_unit(vector) for vector in embeddings["float"])
headers = answer["ResponseMetadata"]["HTTPHeaders"]
assert int(headers["x-amzn-bedrock-input-token-count"]) > len(TEXTS)
assert int(headers["x-amzn-bedrock-output-token-count"]) == 0


def invalid(name: str, body: object, client: Any = client) -> dict[str, Any]:
    """The answer that boto3 shows with the error that it raises."""
    parameters = {"ContentType": "application/json", "Body": json.dumps(body)}
    return refusal(ClientError, client.invoke_endpoint, EndpointName=name, **parameters).response


unknown = invalid("no-such-model", body)
assert unknown["Error"]["Code"] == "ValidationError"
assert unknown["ResponseMetadata"]["HTTPStatusCode"] == 400
empty = invalid(MODEL, {"texts": [], "input_type": "search_document"})
assert empty["Error"]["Code"] == "ModelError"
assert empty["OriginalStatusCode"] == 400
assert "texts" in empty["OriginalMessage"]
wrong_key = {"aws_access_key_id": "inf_wrong", "aws_secret_access_key": "inf_wrong"}
stranger = invalid(MODEL, body, boto3.client("sagemaker-runtime", **wrong_key))
assert stranger["Error"]["Code"] == "UnrecognizedClientException"
assert stranger["ResponseMetadata"]["HTTPStatusCode"] == 403
