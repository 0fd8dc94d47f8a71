"""Annex in haste: the times after which it notices a death, shortened for rounds of seconds.

Imported by every program that is killed here. What is shortened is how long a lapse takes, never
what happens then.
"""

from datetime import timedelta

from inference import embeddings, idempotency, presence

presence.HEARTBEAT_S = 0.25
presence.LAPSE_S = 1.0
embeddings.LEASE_MARGIN_S = 1.0
idempotency.LEASE_MARGIN = timedelta(seconds=embeddings.LEASE_MARGIN_S)
