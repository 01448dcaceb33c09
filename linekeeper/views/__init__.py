"""Read models and pages: fleet, connection, webhooks, digest, metrics, status."""
