"""Known defects that tell a secret: one for each way out of the store."""

from tests.simulation.planting import mutant

CLIENT_SECRET = '__import__("os").environ["LINEKEEPER_MAKINI_CLIENT_SECRET"]'
"""What a piece of code reaches that has no token at hand."""

OF_SECRETS = (
    mutant(
        "token-in-the-log", "whoever gives the product a token logs it",
        ("access/issue.py", "    return given\n",
         '    __import__("logging").getLogger("linekeeper").debug("given %s", token.access)\n'
         "    return given\n"),
    ),
    mutant(
        "secret-in-the-outbox", "a row of the outbox holds the app's secret for its sender",
        (
            "reconnect/mails.py",
            '"attempt": attempt, "customer_id": customer_id}\n',
            '"attempt": attempt, "customer_id": customer_id, "secret": ' + CLIENT_SECRET + "}\n",
        ),
        kinds="logins",
    ),
    mutant(
        "secret-in-the-parameters", "a run is started with the app's secret",
        ("outbox/senders/prefect.py", '            parameters=payload.get("parameters", {}),\n',
         '            parameters={**payload.get("parameters", {}), "secret": '
         + CLIENT_SECRET + "},\n"),
        kinds="logins",
    ),
    mutant(
        "secret-in-the-event-feed", "an entry of the Event Feed holds the app's secret",
        ("outbox/senders/prefect.py", '        payload=payload.get("payload", {}),\n',
         '        payload={**payload.get("payload", {}), "secret": ' + CLIENT_SECRET + "},\n"),
        kinds="logins",
    ),
    mutant(
        "secret-on-a-page", "a page of the Prefect UI shows the app's secret",
        ("tasks/prefect_adapter/pages.py", '    shown = {"data": markdown,',
         '    shown = {"data": markdown + ' + CLIENT_SECRET + ","),
    ),
    mutant(
        "secret-in-slack", "a message in Slack has the app's secret in its metadata",
        ("notify/slack_channel.py", '"event_payload": {"key": key}}',
         '"event_payload": {"key": key, "secret": ' + CLIENT_SECRET + "}}"),
        kinds="logins",
    ),
    mutant(
        "secret-in-a-mail", "the HTML part of a mail has the app's secret",
        ("notify/mail_text.py", "        title=html.escape(subject),\n",
         "        title=html.escape(subject + " + CLIENT_SECRET + "),\n"),
        kinds="logins",
    ),
    mutant(
        "secret-in-a-forward", "what the product is handed has the app's secret",
        ("outbox/forward.py", '    data["recovered"] = False\n',
         '    data["recovered"] = False\n    data["secret"] = ' + CLIENT_SECRET + "\n"),
    ),
    mutant(
        "secret-in-the-fallback-channel", "what is said elsewhere has the app's secret",
        ("outbox/senders/apprise.py", "            body=words.body,\n",
         "            body=words.body + " + CLIENT_SECRET + ",\n"),
        kinds="caps slack logins systems prefect", hours=1.5,
    ),
    mutant(
        "secret-in-an-answer", "why there is no token quotes the app's secret",
        ("receiver/api.py", "WithheldAnswer(incident=given.incident, error=given.reason)",
         "WithheldAnswer(incident=given.incident, error=given.reason + " + CLIENT_SECRET + ")"),
        kinds="anew logins", hours=1.5, personality={"keeps_id": False},
    ),
    mutant(
        "token-in-an-address", "a call to Makini has its token in the address",
        ("makini/wire.py", "        headers = self._headers.copy()\n",
         "        url = url.copy_add_param('access_token', token) if token else url\n"
         "        headers = self._headers.copy()\n"),
    ),
)  # fmt: skip
