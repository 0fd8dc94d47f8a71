"""The tables of billing."""

from billing.models.budgets import Budget, BudgetAlert, Notification
from billing.models.customers import Customer, Subscription
from billing.models.invoices import Credit, CreditNote, CreditUse, Invoice, InvoiceLine
from billing.models.ledger import OutboxEntry, UsageEvent, UsageSum
from billing.models.limits import LimitOverride
from billing.models.plans import Plan, Price
from billing.models.reconciliation import Reconciliation

__all__ = [
    "Budget",
    "BudgetAlert",
    "Credit",
    "CreditNote",
    "CreditUse",
    "Customer",
    "Invoice",
    "InvoiceLine",
    "LimitOverride",
    "Notification",
    "OutboxEntry",
    "Plan",
    "Price",
    "Reconciliation",
    "Subscription",
    "UsageEvent",
    "UsageSum",
]
