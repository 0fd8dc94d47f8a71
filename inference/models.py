"""The tables of inference: answers that a repeated request gets again."""

from django.db import models


class IdempotencyKey(models.Model):
    """A client's `Idempotency-Key`: claimed by a request under way, then with its answer.

    The answer's columns are null until there is one; see inference/idempotency.py.
    """

    attachment_id = models.UUIDField()
    key = models.CharField(max_length=255)
    request_sha256 = models.BinaryField(max_length=32, help_text="of the path and the body")
    claim_id = models.UUIDField(help_text="of the request that may store the answer")
    created_at = models.DateTimeField(db_index=True)
    lease_until = models.DateTimeField(help_text="when a claim without an answer is free again")
    status = models.PositiveSmallIntegerField(null=True)
    headers = models.JSONField(null=True)
    body = models.BinaryField(null=True, help_text="deflated")
    usage = models.JSONField(null=True, help_text="the usage event, word for word")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["attachment_id", "key"], name="idempotency_key_is_unique"
            ),
            models.CheckConstraint(
                condition=models.Q(
                    status__isnull=True,
                    headers__isnull=True,
                    body__isnull=True,
                    usage__isnull=True,
                )
                | models.Q(
                    status__isnull=False,
                    headers__isnull=False,
                    body__isnull=False,
                    usage__isnull=False,
                ),
                name="idempotency_key_answer_is_whole",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key} of {self.attachment_id}"
