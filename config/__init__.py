"""How Annex is put together: settings, ASGI and Celery applications, embedded servers, URL root."""
