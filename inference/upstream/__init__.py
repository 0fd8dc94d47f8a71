"""Models that an upstream computes in place of our workers: Cohere's API, or a SageMaker endpoint.

`entries` is what the catalogue says of one, `upstreams` the calls; `tokenizer` fetches what counts
their tokens here. Only an entry of SageMaker's imports boto3.
"""
