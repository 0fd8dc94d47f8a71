"""The platform's tables. What may happen to a row is in the module named after it."""

import uuid
from typing import cast

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Func, Q, Value
from django.db.models.functions import Lower

from addon.lifecycle import State
from billing.encryption import EncryptedTextField
from billing.models import Plan


class Account(models.Model):
    """Who owns apps and pays for them: a person, or a team by the account that it has for that."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField()
    name = models.CharField(max_length=200, blank=True)
    password = models.CharField(
        max_length=128, blank=True, help_text="hashed; without one there is no login, only keys"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    last_login = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="account_email_is_unique")]

    def __str__(self) -> str:
        return self.email


class Team(models.Model):
    """People who own apps together. `account` is the owner of its apps and the customer who pays;
    nobody logs in by it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=30, unique=True)
    account = models.OneToOneField(Account, models.PROTECT, related_name="team")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.name


class TeamRole(models.TextChoices):
    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"


class TeamMember(models.Model):
    """What a member may do with each of the team's apps: access.py."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    team = models.ForeignKey(Team, models.CASCADE, related_name="members")
    account = models.ForeignKey(Account, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=20, choices=TeamRole.choices)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "account"], name="team_member_is_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.account} of {self.team}"


def global_scope() -> list[str]:
    return ["global"]


class Authorization(models.Model):
    """An access token of an account: its digest and what a list of tokens shows, never itself."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    account = models.ForeignKey(Account, models.CASCADE, related_name="authorizations")
    description = models.CharField(max_length=200, blank=True)
    scope = models.JSONField(default=global_scope)
    token_digest = models.CharField(max_length=64, unique=True, help_text="SHA-256, in hex")
    token_hint = models.CharField(
        max_length=64, blank=True, help_text="its first and last characters, the rest asterisks"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
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


class Collaborator(models.Model):
    """Somebody who may work with an app that is another's. The owner is none."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    app = models.ForeignKey(App, models.CASCADE, related_name="collaborators")
    account = models.ForeignKey(Account, models.CASCADE, related_name="collaborations")
    permissions = models.JSONField(
        default=list, blank=True, help_text="of a team's app: view, deploy, operate, manage"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["app", "account"], name="collaborator_is_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.account} on {self.app}"


class Release(models.Model):
    """One change of an app's config or add-ons."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    app = models.ForeignKey(App, models.CASCADE, related_name="releases")
    version = models.PositiveIntegerField()
    description = models.TextField()
    account = models.ForeignKey(Account, models.PROTECT, null=True, blank=True)
    service = models.ForeignKey(
        "AddonService", models.PROTECT, null=True, blank=True, related_name="+",
        help_text="whose provider made it, in place of an account",
    )  # fmt: skip
    addon_plan_names = models.JSONField(default=list, blank=True)
    config_vars = EncryptedTextField(  # type: ignore[misc]  # the field's type says nothing of null
        null=True, help_text="JSON; all of the app's after it, with who owns each; null: not kept"
    )
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["app", "version"], name="release_version_is_unique"),
            models.CheckConstraint(
                condition=Q(account=None) ^ Q(service=None), name="release_has_one_actor"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.app} v{self.version}"

    @property
    def actor(self) -> "Account | AddonService":
        """Who made it."""
        return cast("Account | AddonService", self.account or self.service)


def all_regions() -> list[str]:
    return ["*"]


class AddonService(models.Model):
    """A registered provider: what its manifest says, and the secret that it was given here."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100, unique=True)
    human_name = models.CharField(max_length=200)
    base_url = models.CharField(max_length=500)
    password = EncryptedTextField()
    config_vars_prefix = models.CharField(max_length=100)
    config_vars = models.JSONField(default=list)
    requires = models.JSONField(default=list, blank=True)
    attachment_credentials = models.BooleanField(default=False)
    regions = models.JSONField(default=all_regions, help_text="as in the manifest; *: all")
    sso_url = models.CharField(max_length=500, blank=True)
    sso_salt = EncryptedTextField(blank=True)
    oauth_client_secret = EncryptedTextField(
        blank=True, help_text="with which the provider exchanges grants for access tokens"
    )
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
    pending_plan = models.ForeignKey(
        Plan, models.PROTECT, null=True, blank=True, related_name="+",
        help_text="which the provider was asked to change to",
    )  # fmt: skip
    state = models.CharField(max_length=20, choices=[(state, state) for state in State])
    provider_id = models.CharField(max_length=256, blank=True)
    options = models.JSONField(default=dict, blank=True)
    provision_message = models.TextField(blank=True)
    resource_config = EncryptedTextField(
        blank=True,
        help_text="JSON; what all attachments share, of services without attachment credentials; "
        "of any that is provisioning what its provider has set so far",
    )
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True, db_index=True)
    deadline_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True)
    failed_at = models.DateTimeField(
        null=True, blank=True, help_text="when it was given up; it was never provisioned then"
    )
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


class PartnerGrant(models.Model):
    """That a provider may call about one add-on: a code that it exchanges once, within minutes, and
    the refresh token that it got for that. Neither is kept, only their SHA-256 in hex."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    addon = models.ForeignKey(Addon, models.CASCADE, related_name="grants")
    code_digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField(help_text="of the code")
    exchanged_at = models.DateTimeField(null=True, blank=True)
    refresh_digest = models.CharField(max_length=64, unique=True, null=True, blank=True)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"grant for {self.addon}"


class PartnerToken(models.Model):
    """An access token of a provider for one add-on; only its SHA-256 is kept, in hex."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    grant = models.ForeignKey(PartnerGrant, models.CASCADE, related_name="tokens")
    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"token for {self.grant.addon}"


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


class Webhook(models.Model):
    """Where an app's changes are posted to, one after the other; or those of one of its add-ons, to
    the provider.

    `next_attempt_at` is when the first of its open deliveries is to be tried; until then somebody
    may be trying it, so it is also the lease of whoever does. Without open deliveries it is null.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    app = models.ForeignKey(App, models.CASCADE, related_name="webhooks")
    addon = models.ForeignKey(
        Addon, models.CASCADE, null=True, blank=True, related_name="webhooks",
        help_text="of the provider's webhooks; `app` is the one that owns it",
    )  # fmt: skip
    url = models.CharField(max_length=500)
    include = models.JSONField(help_text="kinds of changes, e.g. api:addon")
    level = models.CharField(max_length=10, choices=[("notify", "notify"), ("sync", "sync")])
    secret = EncryptedTextField()
    authorization = EncryptedTextField(default="", blank=True)
    next_attempt_at = models.DateTimeField(null=True, blank=True, db_index=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.url


def next_webhook_seq() -> Func:
    """Ids say nothing of the order of rows; this does, within the lock of the webhook."""
    return Func(Value("platform_webhook_seq"), function="nextval")


class WebhookEvent(models.Model):
    """One change of an app, as it was when it happened. Written with the change or not at all."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    seq = models.BigIntegerField(db_default=next_webhook_seq(), editable=False)
    app = models.ForeignKey(App, models.CASCADE, related_name="webhook_events")
    include = models.CharField(max_length=50)
    action = models.CharField(max_length=10)
    payload = models.JSONField(encoder=DjangoJSONEncoder)
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        indexes = [models.Index(fields=["app", "seq"], name="webhook_event_of_app")]

    def __str__(self) -> str:
        return f"{self.include} {self.action}"


class DeliveryStatus(models.TextChoices):
    PENDING = "pending"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class WebhookDelivery(models.Model):
    """One event on its way to one webhook. `next_attempt_at` is set while it waits for a retry."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    seq = models.BigIntegerField(db_default=next_webhook_seq(), editable=False)
    webhook = models.ForeignKey(Webhook, models.CASCADE, related_name="deliveries")
    event = models.ForeignKey(WebhookEvent, models.CASCADE, related_name="deliveries")
    status = models.CharField(max_length=20, choices=DeliveryStatus.choices)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    last_attempt = models.JSONField(null=True, blank=True, help_text="id, code, error_class, …")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "webhook deliveries"
        indexes = [
            models.Index(
                fields=["webhook", "seq"],
                condition=Q(status__in=["pending", "retrying"]),
                name="open_delivery_of_webhook",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.webhook}"


class Notification(models.Model):
    """What `heroku notifications` shows to an account."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    account = models.ForeignKey(Account, models.CASCADE, related_name="notifications")
    app = models.ForeignKey(App, models.CASCADE, null=True, blank=True, related_name="+")
    title = models.CharField(max_length=200)
    body = models.TextField()
    is_read = models.BooleanField(default=False)
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["account", "created_at"], name="notification_of_account")]

    def __str__(self) -> str:
        return self.title
