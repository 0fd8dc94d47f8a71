"""The OpenAPI document of the inference routes, made from the dialects' own constants.

`GET /openapi.json` answers with it. tests/inference/test_openapi.py holds it against the routes,
inference/errors.py, the pages in docs/ and the examples of the product documents.
"""
