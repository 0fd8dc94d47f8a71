"""What was found when limiter, ledger, sums and invoices were compared."""

from django.db import models


class Reconciliation(models.Model):
    """One comparison of two accounts of the same thing; any drift but 0 is an alarm."""

    class Kind(models.TextChoices):
        LIMITER_AND_LEDGER = "limiter and ledger"
        ROWS_AND_SUMS = "rows and sums"
        LEDGER_AND_INVOICE = "ledger and invoice"

    kind = models.CharField(max_length=30, choices=Kind.choices)
    ran_at = models.DateTimeField(db_index=True)
    compared = models.BigIntegerField(help_text="how many pairs of figures")
    drift_picounits = models.BigIntegerField(help_text="sum of the absolute differences")
    details = models.JSONField(default=list, help_text="each pair that differs")

    def __str__(self) -> str:
        return f"{self.kind}: {self.drift_picounits}"
