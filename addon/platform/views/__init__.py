"""The routes of the Platform API: translate in, one call, out."""
