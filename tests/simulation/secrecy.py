"""No secret is anywhere but encrypted in the store, and with whom it is for."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tests.simulation import slack
from tests.simulation.makini.http import CLIENT_SECRET
from tests.simulation.makini.webhooks import WEBHOOK_SECRET
from tests.simulation.pager import URL
from tests.simulation.product import FORWARD_SECRET
from tests.simulation.rare import NEW_KEY

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle
    from tests.simulation.universe import Universe

KEY = "c2ltdWxhdGVkIGtleSwgMzIgYnl0ZXMgbG9uZyAhISE="  # of a throw-away database
MAIL_PASSWORD = "smtp-simulated-9c40"
SMTP_URL = f"smtp://linekeeper:{MAIL_PASSWORD}@mail.sim:587"
SETTINGS = {
    "Makini's client secret": CLIENT_SECRET, "the secret of webhooks": WEBHOOK_SECRET,
    "the secret of forwards": FORWARD_SECRET, "Slack's token": slack.TOKEN,
    "Slack's signing secret": slack.SIGNING_SECRET, "the mail server's password": MAIL_PASSWORD,
    "the fallback channel's address": URL, "the key": KEY, "the new key": NEW_KEY,
}  # fmt: skip
MAKINI = "makini.sim"
_TOKEN = re.compile(r"mk(?:at|rt|ad|co)-[0-9a-f]{24}")
"""Any token or code that Makini hands out."""


def leaked_secrets(oracle: "Oracle") -> list[str]:
    """Everything that is broken, in one line each."""
    universe = oracle.universe
    tokens = set(universe.truth.secrets)
    settings = dict(SETTINGS)
    if universe.asking.key:
        settings["the key of the product"] = universe.asking.key
    broken = [f"log: {wrong}" for wrong in universe.logs.wrong]
    for where, text in _texts(universe).items():
        found = {f"{token[:6]}…" for token in _TOKEN.findall(text) if token in tokens}
        found |= {name for name, secret in settings.items() if secret in text}
        broken += [f"secret: {name} is in {where}" for name in sorted(found)]
    return broken


def _texts(universe: "Universe") -> Mapping[str, str]:
    """All that leaves the store, by where it stands; and the store as it lies on the disk.

    That a file holds what has been deleted is no matter: in plain text it was never to be there.
    """
    prefect, pager = universe.prefect, universe.pager
    texts = {
        "an event": map(repr, prefect.events.values()),
        "an artifact, or the name of a run": prefect.written,
        "a run": map(repr, prefect.runs.values()),
        "a mail": (mail.whole for mail in universe.mail.taken),
        "the fallback channel": [*pager.bodies, *(title for _, title in pager.said)],
        "an answer of the receiver": (page.decode(errors="replace") for page in universe.pages),
        "a log": universe.logs.lines,
        "an address of Makini's": (
            f"{sent.path}?{sent.query}" for sent in universe.network.sent if sent.host == MAKINI
        ),
        "what Slack was sent": _sent(universe, slack.HOST),
        "what the product was sent": _sent(universe, "product.sim"),
        "the database": (
            file.read_bytes().decode("latin-1") for file in universe.home.iterdir()
            if file.is_file()
        ),
    }  # fmt: skip
    return {where: "\n".join(found) for where, found in texts.items()}


def _sent(universe: "Universe", host: str) -> Iterator[str]:
    """What was asked of `host`, but for the proof of who asks."""
    for sent in universe.network.sent:
        if sent.host == host:
            own = f"Bearer {slack.TOKEN}" if host == slack.HOST else None
            headers = [value for value in sent.headers.values() if value != own]
            body = sent.body.decode(errors="replace")
            yield " ".join([sent.path, sent.query, *headers, body])
