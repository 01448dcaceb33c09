"""What the forms of a run that configures a connection ask, and what it waits for. Pure."""

from linekeeper.markdown import not_taken, text
from linekeeper.workflow_configuration.decide import ConfigurationStanding


def what_to_read(label: str) -> str:
    """What the first form asks."""
    return (
        f"**What is {text(label)} to be read for?** Then every entity is read, and the step is "
        "done; webhooks and a clean reconcile are verified after that."
    )


def refused_for(faults: list[str]) -> str:
    """What the next form begins with."""
    return not_taken(text("; ".join(faults), 1_000)) if faults else ""


def waiting_question(standing: ConfigurationStanding, webhooks_url: str) -> str:
    """What the form of a run says that waits for a step. `webhooks_url` is the connection's."""
    if standing.step == "first_read":
        missing = ", ".join(standing.unread)
        why = f" {text(standing.obstacle)}." if standing.obstacle else ""
        return f"**Waiting for the first full read** of {missing}.{why} It is tried every 15 min."
    if standing.step == "webhooks":
        return (
            f"**Waiting for a webhook of each entity:** {', '.join(standing.undelivered)}.\n\n"
            "In Makini's dashboard open this connection, then *Webhooks*: enter the address "
            f"`{webhooks_url}`, select these entities, and send a test webhook of each. The run "
            "goes on by itself when they have come."
        )
    return (
        "**Waiting for a clean reconcile:** the last one found changes that no webhook had "
        "brought, or could not read everything. It is repeated every 15 min; see the artifact "
        "`webhook-trust`."
    )
