"""The provider: the Add-on Partner API v3, as Heroku or our own platform calls it.

Owns resources (what a platform provisioned here), their attachments, and the credentials that apps
authenticate with. Each attachment has credentials of its own.
"""
