"""Django settings, every one of them from the environment.

`make up` writes what it generated (secrets, the addresses of the embedded servers) to
`var/environment`; it is read here as a fallback, so `./manage.py` works in a second terminal.
A variable set in the environment always wins. Every variable is described in app.json and
docs/configuration.md (a test compares them).
"""

import hashlib
import hmac
from pathlib import Path
from tempfile import gettempdir
from urllib.parse import urlsplit

import dj_database_url
import dj_email_url
import django_stubs_ext
from celery.schedules import crontab
from environs import Env, validate

django_stubs_ext.monkeypatch()  # lets ModelAdmin[Plan] and the like be written without quotes

BASE_DIR = Path(__file__).resolve().parent.parent

env = Env()
VAR_DIR: Path = env.path("VAR_DIR", BASE_DIR / "var")
env.read_env(str(VAR_DIR / "environment"), recurse=False, override=False)

# Secrets
SECRET_KEY: str = env.str("SECRET_KEY")
ENCRYPTION_KEYS: list[str] = env.list("ENCRYPTION_KEYS")
PROVIDER_PASSWORD: str = env.str("PROVIDER_PASSWORD")
# Without it the provider has no single sign-on.
SSO_SALT: str = env.str("SSO_SALT", "")
# Without it the provider takes no webhooks.
PROVIDER_WEBHOOK_SECRET: str = env.str("PROVIDER_WEBHOOK_SECRET", "")
# Without it everything works but the signed export of invoices.
INVOICE_SIGNING_KEY: str = env.str("INVOICE_SIGNING_KEY", "")

# Where Annex is reached. The platform calls the provider, and apps call the embeddings API, at
# these addresses; they are the same host unless a deployment splits them.
PORT: int = env.int("PORT", 5000)
PUBLIC_URL: str = env.str("PUBLIC_URL", f"http://localhost:{PORT}").rstrip("/")
PROVIDER_URL: str = env.str("PROVIDER_URL", PUBLIC_URL).rstrip("/")
INFERENCE_URL: str = env.str("INFERENCE_URL", PUBLIC_URL).rstrip("/")
INFERENCE_URL_EU: str = env.str("INFERENCE_URL_EU", INFERENCE_URL).rstrip("/")
_SERVED_OVER_TLS = PUBLIC_URL.startswith("https://")

# The regions that resources may be in, and the one that this web process or worker is for; without
# it, it serves them all. Where apps reach a region is told by INFERENCE_URL, or INFERENCE_URL_EU.
REGIONS: list[str] = env.list(
    "REGIONS",
    ["us", "eu"],
    validate=[validate.Length(min=1), validate.ContainsOnly(["us", "eu"])],
)
PROCESS_REGION: str = env.str("PROCESS_REGION", "", validate=validate.OneOf(["", *REGIONS]))

# The add-on that this deployment provides
ADDON_SERVICE_NAME: str = env.str("ADDON_SERVICE_NAME", "heroku-inference")
# Platforms that the provider may call back, and where they exchange grants; empty: what is usual
PLATFORM_URLS: list[str] = [
    url.rstrip("/") for url in env.list("PLATFORM_URLS", [PUBLIC_URL, "https://api.heroku.com"])
]
PLATFORM_TOKEN_URL: str = env.str("PLATFORM_TOKEN_URL", "")
# What the provider exchanges grants with; our own platform learns it when it registers the add-on.
OAUTH_CLIENT_SECRET: str = (
    env.str("OAUTH_CLIENT_SECRET", "")
    or hmac.new(PROVIDER_PASSWORD.encode(), b"oauth client secret", hashlib.sha256).hexdigest()
)
MODEL_CATALOGUE: Path = env.path("MODEL_CATALOGUE", BASE_DIR / "inference" / "catalogue.toml")
MODELS_DIR: Path = env.path("MODELS_DIR", VAR_DIR / "models")

ACCOUNT_EMAIL: str = env.str("ACCOUNT_EMAIL", "dev@example.com")
ACCOUNT_API_KEY: str = env.str("ACCOUNT_API_KEY", "")

# How many requests to the Platform API an account may make, at once and in each hour
PLATFORM_REQUESTS_PER_HOUR: int = env.int(
    "PLATFORM_REQUESTS_PER_HOUR", 4_500, validate=validate.Range(min=1)
)

# The embeddings request path
REQUEST_TIMEOUT_S: float = env.float("REQUEST_TIMEOUT_S", 25.0)
REQUEST_BODY_MAX_BYTES: int = env.int("REQUEST_BODY_MAX_BYTES", 20_000_000)
# Whose attachment pays for calls that SageMaker hands on, which carry no key
SAGEMAKER_KEY: str = env.str("SAGEMAKER_KEY", "")
KEY_CACHE_S: float = env.float("KEY_CACHE_S", 1.0)
# How long a key works after another one has taken its place
KEY_OVERLAP_S: int = env.int("KEY_OVERLAP_S", 3_600, validate=validate.Range(min=0, max=7 * 86_400))
IDEMPOTENCY_MAX_MB: int = env.int("IDEMPOTENCY_MAX_MB", 1_000)
# Count what the limits would refuse, and refuse nothing
LIMITS_SHADOW: bool = env.bool("LIMITS_SHADOW", False)
# While Redis is gone, each web process admits its part of the limits, for so long
LIMITS_PROCESSES: int = env.int("LIMITS_PROCESSES", env.int("WEB_CONCURRENCY", 1))
LIMITS_LOCAL_SHARE_S: float = env.float("LIMITS_LOCAL_SHARE_S", 60.0)

# Who is told of budgets, and how. Without EMAIL_URL no e-mails are sent.
EMAIL_URL: str = env.str("EMAIL_URL", "")
WEBHOOK_ALLOW_PRIVATE: bool = env.bool("WEBHOOK_ALLOW_PRIVATE", False)

# How many whole months the ledger's rows are kept, once they are on final invoices; 0: for ever
LEDGER_RETENTION_MONTHS: int = env.int("LEDGER_RETENTION_MONTHS", 0, validate=validate.Range(min=0))

# Where the ledger's rows are exported to; a destination without its address or key is off.
EXPORT_OPENMETER_URL: str = env.str("EXPORT_OPENMETER_URL", "").rstrip("/")
EXPORT_OPENMETER_TOKEN: str = env.str("EXPORT_OPENMETER_TOKEN", "")
EXPORT_STRIPE_URL: str = env.str("EXPORT_STRIPE_URL", "https://api.stripe.com").rstrip("/")
EXPORT_STRIPE_KEY: str = env.str("EXPORT_STRIPE_KEY", "")
EXPORT_STRIPE_EVENT_NAME: str = env.str("EXPORT_STRIPE_EVENT_NAME", "annex_tokens")

# What GET /metrics asks for; without it there is no such route
METRICS_KEY: str = env.str("METRICS_KEY", "")

# What the models that a worker holds in memory may take together
WORKER_MEMORY_MB: int = env.int("WORKER_MEMORY_MB", 8_192)

DEBUG: bool = env.bool("DEBUG", False)
# How many proxies stand before a web process; each adds to X-Forwarded-For who called it.
TRUSTED_PROXIES: int = env.int("TRUSTED_PROXIES", int(_SERVED_OVER_TLS))
ALLOWED_HOSTS: list[str] = env.list(
    "ALLOWED_HOSTS", [urlsplit(PUBLIC_URL).hostname or "localhost", "localhost", "127.0.0.1"]
)
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular_sidecar",  # Swagger UI, as static files
    "config.django_app.ConfigConfig",
    "billing.django_app.BillingConfig",
    "addon.provider.django_app.ProviderConfig",
    "addon.platform.django_app.PlatformConfig",
    "inference.django_app.InferenceConfig",
]

MIDDLEWARE = [
    "addon.platform.request_ids.RequestIds",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "config.admin_input.AdminInput",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
APPEND_SLASH = False  # the heroku CLI sends no trailing slashes, and a redirect loses a body
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASE_POOL_SIZE: int = env.int("DATABASE_POOL_SIZE", 8)
DATABASES = {
    "default": dj_database_url.parse(env.str("DATABASE_URL"), engine="config.postgresql"),
}
# Each request has a thread of its own, so connections are pooled rather than kept by thread. A pool
# also bounds how many connections a process may open. PostgreSQL plans what comes often once for
# each, which halves its work: values do not travel within the statement then.
DATABASES["default"]["OPTIONS"] = {
    # A host that has vanished is noticed in half a minute, whatever waits for it.
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    **DATABASES["default"].get("OPTIONS", {}),
    "server_side_binding": True,
    "prepare_threshold": 5,
    "pool": {"min_size": 0, "max_size": DATABASE_POOL_SIZE, "timeout": 20.0},
}
REDIS_URL: str = env.str("REDIS_URL")

# Celery: the control plane's tasks go to `control`; each model has a queue of its own.
CELERY_BROKER_URL = REDIS_URL
# Without them a publish would wait for ever on a connection whose other end has vanished.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 5.0,
    "socket_connect_timeout": 5.0,
    "socket_keepalive": True,
}
CELERY_TASK_DEFAULT_QUEUE = "control"
CELERY_TASK_IGNORE_RESULT = True
CELERY_ACCEPT_CONTENT = ["json", "application/x-annex-msgpack"]  # the latter: inference/wire.py
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# On a dyno there is no var/; losing the file costs beat nothing but an early first round.
CELERY_BEAT_SCHEDULE_FILENAME = str(
    (VAR_DIR if VAR_DIR.is_dir() else Path(gettempdir())) / "celerybeat-schedule"
)
CELERY_BEAT_SCHEDULE = {
    "addon.platform.deliver_webhooks": {
        "task": "addon.platform.deliver_webhooks",
        "schedule": 5.0,
        "options": {"expires": 5.0},
    },
    "addon.platform.revive_webhooks": {
        "task": "addon.platform.revive_webhooks",
        "schedule": 60.0,
        "options": {"expires": 60.0},
    },
    "addon.platform.prune_webhooks": {
        "task": "addon.platform.prune_webhooks",
        "schedule": 3_600.0,
        "options": {"expires": 3_600.0},
    },
    "addon.platform.reconcile": {
        "task": "addon.platform.reconcile",
        "schedule": 5.0,
        "options": {"expires": 5.0},  # with no worker, rounds must not pile up
    },
    "addon.provider.reconcile": {
        "task": "addon.provider.reconcile",
        "schedule": 5.0,
        "options": {"expires": 5.0},
    },
    "addon.provider.send_log_lines": {
        "task": "addon.provider.send_log_lines",
        "schedule": 5.0,
        "options": {"expires": 5.0},
    },
    "billing.check_budgets": {
        "task": "billing.check_budgets",
        "schedule": 30.0,
        "options": {"expires": 30.0},
    },
    "billing.close_invoices": {
        "task": "billing.close_invoices",
        "schedule": 900.0,
        "options": {"expires": 900.0},
    },
    "billing.deliver_notifications": {
        "task": "billing.deliver_notifications",
        "schedule": 5.0,
        "options": {"expires": 5.0},
    },
    "billing.deliver_exports": {
        "task": "billing.deliver_exports",
        "schedule": 10.0,
        "options": {"expires": 10.0},
    },
    "billing.keep_partitions": {
        "task": "billing.keep_partitions",
        "schedule": 3_600.0,
        "options": {"expires": 3_600.0},
    },
    "billing.reconcile_limiter": {
        "task": "billing.reconcile_limiter",
        "schedule": 300.0,
        "options": {"expires": 300.0},
    },
    "billing.reconcile_ledger": {
        "task": "billing.reconcile_ledger",
        "schedule": crontab(hour="2", minute="40"),  # UTC
        "options": {"expires": 43_200.0},
    },
    "inference.purge_idempotency_keys": {
        "task": "inference.purge_idempotency_keys",
        "schedule": 60.0,
        "options": {"expires": 60.0},
    },
}

if EMAIL_URL:
    vars().update(dj_email_url.parse(EMAIL_URL))
EMAIL_TIMEOUT = 15

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Annex Platform API",
    "DESCRIPTION": "Heroku's Platform API, as far as Annex has it, and what Annex adds.",
    "VERSION": "3",
    "OAS_VERSION": "3.1.0",
    "SERVERS": [{"url": PUBLIC_URL}],
    "APPEND_COMPONENTS": {
        "securitySchemes": {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "An access token: `heroku auth:token` prints one.",
            }
        }
    },
    "GET_MOCK_REQUEST": "addon.platform.schema.openapi.no_request",
    "POSTPROCESSING_HOOKS": ["addon.platform.schema.openapi.add_components"],
}

# With an https:// PUBLIC_URL, cookies and redirects insist on TLS; terminated by a proxy that sets
# X-Forwarded-Proto, as Heroku's router does.
SECURE_SSL_REDIRECT = _SERVED_OVER_TLS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = 31_536_000 if _SERVED_OVER_TLS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = _SERVED_OVER_TLS
SECURE_HSTS_PRELOAD = _SERVED_OVER_TLS
SESSION_COOKIE_SECURE = _SERVED_OVER_TLS
CSRF_COOKIE_SECURE = _SERVED_OVER_TLS
X_FRAME_OPTIONS = "DENY"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
# Served from the packages themselves, so that nothing has to be collected before a first start.
WHITENOISE_USE_FINDERS = True

LOG_LEVEL: str = env.str("LOG_LEVEL", "INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_mark": {"()": "addon.platform.request_ids.RequestMark"}},
    "formatters": {"line": {"format": "%(levelname)s %(name)s %(request_mark)s%(message)s"}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["request_mark"],
        }
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "httpx": {"level": "WARNING"},
        "httpx2": {"level": "WARNING"},
        "huggingface_hub": {"propagate": False},  # it has a handler of its own
        "botocore": {"level": "INFO"},  # below, it shows what it signs, tokens of sessions included
        # A client's mistake is no event of ours; Django would warn of each, some with a traceback.
        "django.request": {"level": "ERROR"},
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        # What it warns of ends in an exception, which is reported once.
        "psycopg.pool": {"level": "ERROR"},
        # Two lines a task would be more than the requests themselves log.
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
    },
}
