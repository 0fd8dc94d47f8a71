"""Exports: each row of the ledger, sent on to other meters from the outbox."""

from billing.exports.destinations import enabled_destinations

__all__ = ["enabled_destinations"]
