"""The platform's tables. What may happen to a row is in the module named after it."""

import uuid

from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from addon.lifecycle import State
from billing.encryption import EncryptedTextField
from billing.models import Plan


class Account(models.Model):
    """A person who owns apps."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField()
    name = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    last_login = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="account_email_is_unique")]

    def __str__(self) -> str:
        return self.email


class Authorization(models.Model):
    """An access token of an account."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    account = models.ForeignKey(Account, models.CASCADE, related_name="authorizations")
    description = models.CharField(max_length=200, blank=True)
    access_token = EncryptedTextField()
    token_digest = models.CharField(max_length=64, unique=True, help_text="SHA-256, in hex")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.description or str(self.id)


class App(models.Model):
    """A Heroku app: a name, config vars, releases and add-ons. A destroyed one frees its name."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=30)
    owner = models.ForeignKey(Account, models.PROTECT, related_name="apps")
    region = models.CharField(max_length=10, choices=[("us", "us"), ("eu", "eu")], default="us")
    stack = models.CharField(max_length=30, default="heroku-24")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    released_at = models.DateTimeField(null=True, blank=True)
    destroyed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["name"], condition=Q(destroyed_at=None), name="app_name_is_unique"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Release(models.Model):
    """One change of an app's config or add-ons."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    app = models.ForeignKey(App, models.CASCADE, related_name="releases")
    version = models.PositiveIntegerField()
    description = models.TextField()
    account = models.ForeignKey(Account, models.PROTECT)
    addon_plan_names = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["app", "version"], name="release_version_is_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.app} v{self.version}"


class AddonService(models.Model):
    """A registered provider: what its manifest says."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100, unique=True)
    human_name = models.CharField(max_length=200)
    base_url = models.CharField(max_length=500)
    password = EncryptedTextField()
    config_vars_prefix = models.CharField(max_length=100)
    config_vars = models.JSONField(default=list)
    requires = models.JSONField(default=list, blank=True)
    attachment_credentials = models.BooleanField(default=False)
    state = models.CharField(max_length=20, default="ga")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = "add-on service"

    def __str__(self) -> str:
        return self.name

    @property
    def supports_sharing(self) -> bool:
        return "attachable" in self.requires

    @property
    def supports_multiple_installations(self) -> bool:
        return "many_per_app" in self.requires


class Addon(models.Model):
    """An add-on of an app. Its state is written by transitions.py only.

    In a state that waits for the provider, `next_attempt_at` is when the provider is to be asked
    again; until then somebody may be asking it, so it is also the lease of whoever does. One that
    is provisioned has it only while its provider may have another plan: plan_changes.py.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=256)
    app = models.ForeignKey(App, models.PROTECT, related_name="addons")
    service = models.ForeignKey(AddonService, models.PROTECT, related_name="addons")
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="+")
    state = models.CharField(max_length=20, choices=[(state, state) for state in State])
    provider_id = models.CharField(max_length=256, blank=True)
    options = models.JSONField(default=dict, blank=True)
    provision_message = models.TextField(blank=True)
    resource_config = EncryptedTextField(
        blank=True, help_text="JSON; only for services without attachment credentials"
    )
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True, db_index=True)
    deadline_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name = "add-on"
        constraints = [
            models.UniqueConstraint(
                fields=["name"],
                condition=~Q(state=State.DEPROVISIONED),
                name="addon_name_is_unique",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class AttachmentState(models.TextChoices):
    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"


class Attachment(models.Model):
    """A use of an add-on by an app, under a name that its config vars start with.

    While a confirmed overwrite is under way, the new attachment is `attaching` beside the old one
    that is still `attached` under the same name: the old one goes when the new one has come.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    addon = models.ForeignKey(Addon, models.CASCADE, related_name="attachments")
    app = models.ForeignKey(App, models.PROTECT, related_name="attachments")
    name = models.CharField(max_length=128)
    state = models.CharField(max_length=20, choices=AttachmentState.choices)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True, db_index=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["app", "name"],
                condition=Q(state=AttachmentState.ATTACHED),
                name="attachment_name_is_unique",
            ),
            models.UniqueConstraint(
                fields=["app", "name"],
                condition=Q(state=AttachmentState.ATTACHING),
                name="attachment_name_is_reserved_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.app}::{self.name}"


class ConfigVar(models.Model):
    """A config var of an app; one that has an attachment is written by that attachment only."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    app = models.ForeignKey(App, models.CASCADE, related_name="config_vars")
    name = models.CharField(max_length=256)
    value = EncryptedTextField()
    attachment = models.ForeignKey(
        Attachment, models.CASCADE, null=True, blank=True, related_name="config_vars"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["app", "name"], name="config_var_name_is_unique"),
        ]

    def __str__(self) -> str:
        return self.name
