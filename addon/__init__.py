"""Add-ons, seen from both sides.

`provider` speaks the Add-on Partner API (Heroku, or our own platform, is its caller); `platform`
speaks the Platform API (the heroku CLI is its caller). The two never import each other: they meet
over HTTP. Beside them lies what both need: lifecycle, manifest, config var names.
"""
