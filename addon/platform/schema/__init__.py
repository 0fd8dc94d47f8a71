"""The JSON hyper-schema of the Platform API: what every route takes and answers.

`heroku.json` is Heroku's own, unchanged, as <https://api.heroku.com/schema> had it on 2026-02-19
(schema.json of github.com/heroku/platform-api). `annex.json` has, in the same form, what Heroku's
does not. Where Annex or the real API differs from Heroku's schema, `deviations.py` says so and why.

`GET /schema`, the OpenAPI document and the checks of the tests are made from these three.
"""
