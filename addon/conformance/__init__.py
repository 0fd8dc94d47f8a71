"""A test suite for add-on providers: Heroku's Add-on Partner API v3, as a platform calls it.

It needs a manifest and a provider that runs, nothing else of Annex: `python -m addon.conformance
addon-manifest.json`, or `manage.py addons test`. What it checks is in `groups`, one module a group.
"""
