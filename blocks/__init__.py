"""What an operator fills in in the Prefect UI. `prefect block register --module blocks`."""

from blocks.health_policy import HealthPolicy
from blocks.mail import Mail
from blocks.makini_app import MakiniApp
from blocks.slack_channel import SlackChannel

__all__ = ["HealthPolicy", "Mail", "MakiniApp", "SlackChannel"]
