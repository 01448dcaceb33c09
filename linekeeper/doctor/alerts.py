"""Who is notified of incidents: policy, channels that take nothing, the other channels' URLs."""

import asyncio

import apprise

from linekeeper.config import Configuration
from linekeeper.doctor.finding import Finding, ok, warn, wrong
from linekeeper.notify.channels import SOCKET, troubles
from linekeeper.notify.evaluate import targets
from linekeeper.notify.policy import check
from linekeeper.notify.routing import channels_of
from linekeeper.store import Store

_BLOCK = "correct it in the AlertPolicy block"


async def examine_alerts(store: Store, configuration: Configuration) -> list[Finding]:
    """What is to be said about how incidents are told. Nothing is sent."""
    policy = configuration.alerts
    try:
        check(policy)
    except ValueError as error:
        return [wrong("alerts · policy", str(error), _BLOCK)]
    findings = [
        await asyncio.to_thread(_readable, url) for url in targets(policy.elsewhere).values()
    ]
    for notice_channel in await troubles(store):
        text, _, mend = notice_channel.trouble.rpartition(": ")
        since = f"takes nothing since {notice_channel.since:%Y-%m-%d %H:%M} UTC"
        name = f"alerts · {notice_channel.channel}"
        if notice_channel.needs_mending:
            findings.append(
                wrong(name, f"{since}: {text or notice_channel.trouble}", mend or _BLOCK)
            )
        else:
            findings.append(
                warn(name, f"{since}: {notice_channel.trouble}", "it is tried again by itself")
            )
    if not channels_of(configuration) and not policy.elsewhere:
        text = "nobody is notified of incidents: neither Slack nor another channel is filled in"
        findings.append(warn("alerts", text, "fill in a SlackChannel or an AlertPolicy block"))
    mended = [finding for finding in findings if finding.mend] or [
        ok("alerts", _where_to(configuration))
    ]
    return [*mended, *_socket_mode(configuration, findings)]


def _socket_mode(configuration: Configuration, findings: list[Finding]) -> list[Finding]:
    """That the consumer reports no trouble with it; trouble is among the findings."""
    tokens = [channel.app_token for channel in channels_of(configuration).values()]
    is_wanted = any(token.get_secret_value().strip() for token in tokens)
    if not is_wanted or any(each.name == f"alerts · {SOCKET}" for each in findings):
        return []
    return [ok(f"alerts · {SOCKET}", "connected, as far as the consumer reports")]


def _readable(url: str) -> Finding:
    scheme = url.partition("://")[0][:20]
    name = f"alerts · elsewhere {scheme}"
    if apprise.Apprise().add(url):
        return ok(name, "Apprise can read the URL")
    return wrong(name, f"Apprise can't read the URL {scheme}://…", _BLOCK)


def _where_to(configuration: Configuration) -> str:
    policy, slack = configuration.alerts, channels_of(configuration)
    others = len(policy.elsewhere)
    places = [
        *(["Slack"] if len(slack) == 1 else []),
        *([f"{len(slack)} Slack channels"] if len(slack) > 1 else []),
        *([f"{others} other {'channel' if others == 1 else 'channels'}"] if others else []),
    ]
    quiet = " and ".join(filter(None, (policy.quiet_hours, policy.quiet_days)))
    hours = f"quiet hours {quiet} ({policy.time_zone})" if quiet else "no quiet hours"
    return f"incidents go to {' and '.join(places)}; {hours}"
