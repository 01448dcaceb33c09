"""What an operator fills in in the Prefect UI. `prefect block register --module blocks`."""

from blocks.alert_policy import AlertPolicy
from blocks.health_policy import HealthPolicy
from blocks.mail import Mail
from blocks.makini_app import MakiniApp
from blocks.slack_channel import SlackChannel

__all__ = ["AlertPolicy", "HealthPolicy", "Mail", "MakiniApp", "SlackChannel"]
