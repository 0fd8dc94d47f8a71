"""The platform: the Platform API v3, as the heroku CLI calls it.

Owns accounts, apps, releases, config vars, add-ons and their attachments. It reaches every
provider, our own included, by the Add-on Partner API over HTTP.
"""
