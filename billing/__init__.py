"""Plans, rate limits and metering. Imports nothing of the rest of Annex."""
