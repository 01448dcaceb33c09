"""Known defects of what is said, given and counted: to operators, customers and the product."""

from tests.simulation.planting import mutant

OF_WORDS = (
    mutant(
        "delivered-again-is-new", "a delivery that comes again under its id is another event",
        ("inbox/identify.py",
         "    event = _text_at(payload, _NAMES)\n",
         "    delivery_id = delivery_id and delivery_id + __import__(\n"
         '        "linekeeper.clock"\n'
         "    ).clock.token_bytes(4).hex()\n"
         "    event = _text_at(payload, _NAMES)\n"),
        kinds="webhooks", personality={"webhook_id": "header"},
    ),
    mutant(
        "nothing-to-backfill", "what a backfill brought isn't counted",
        ("reconnect/counts.py",
         '    records = sum(int(counts.get("caught_up", 0)) for counts in backfills)\n',
         "    records = 0\n"),
        kinds="logins", hours=1.5, seed=5,
    ),
    mutant(
        "always-all-healthy", "a sweep says that all is healthy, whatever it found",
        ("incidents/news.py",
         '        return ", ".join(f"{count} {word}" for count, word in counts if count) or',
         '        return "" or'),
        kinds="logins systems",
    ),
    mutant(
        "unreachable-is-no-trouble", "a connection that is unreachable opens no incident",
        ("health/judge.py", "or health == Health.healthy:\n        return False\n",
         'or health in ("healthy", "unreachable"):\n        return False\n'),
        kinds="sick", sick="hang", hours=1.5,
    ),
    mutant(
        "inactive-for-ever", "an incident about credits or a silent system outlives its cause",
        ("incidents/decide.py",
         "            if not incidents[incident_id].members and incident_id not in merged\n",
         "            if not incidents[incident_id].members and incident_id not in merged\n"
         '            and before[incident_id].kind not in ("unreachable", "inactive")\n'),
        kinds="systems episodes", hours=1.5,
    ),
    mutant(
        "nobody-but-the-provider", "one customer's trouble is told as that of the whole app",
        ("incidents/causes.py",
         "    return mostly_theirs and others_hit * 2 < others\n", "    return False\n"),
        kinds="customer", hours=1.5,
    ),
    mutant(
        "token-after-the-end", "the product gets tokens of a connection that was disconnected",
        ("access/issue.py",
         '    if connection.setup == "disconnected":\n        return Withheld(',
         '    if connection.setup == "":\n        return Withheld('),
        kinds="anew logins", hours=1.5, personality={"keeps_id": False},
    ),
    mutant(
        "token-of-a-lost-login", "the product gets tokens though the login is known to be lost",
        ("access/issue.py",
         "    if connection.health == Health.reauthorization_required.value:\n", "    if False:\n"),
        ("access/issue.py",
         "    if token is None or is_ending(token.expires_at, now):\n", "    if token is None:\n"),
        ("access/issue.py",
         "    elif token.in_doubt_since is not None:\n", "    elif token is None:\n"),
        kinds="storm", hours=1.5, personality={"status_lag": 0.0},
    ),
    mutant(
        "budget-overspent", "calls are granted that are not in the budget any more",
        ("budget.py", "        granted, wait, closed = await self._change(app, take)\n",
         "        await self._change(app, take)\n"
         "        granted, wait, closed = want + ahead, 0.0, False\n"),
        kinds="thrift hands", hours=1.5,
    ),
    mutant(
        "thanked-while-lost", "who is to be asked for a login is thanked for one",
        ("outbox/senders/mail.py", '    what: What = row.payload["do"]\n',
         '    what: What = {"ask": "thank"}.get(row.payload["do"], row.payload["do"])\n'),
        ("outbox/senders/mail.py",
         '        if what == "thank" and not is_lost_again and current.evidence in VERIFIED:\n',
         '        if what == "thank":\n'),
        kinds="logins",
    ),
    mutant(
        "thanked-twice", "whoever has logged in is thanked in two mails",
        ("reconnect/process.py", '        mail(incident, attempt, customer, "thank")\n',
         '        mail(incident, attempt, customer, "thank", *which)\n'
         '        for which in ((), ("2",))\n'),
        kinds="logins",
    ),
    mutant(
        "charged-again", "a check of the ledger takes the credits of every connection again",
        ("credits/service.py",
         "        entries = await queries.sums(session, app)\n        listed, gone",
         "        entries = []\n        listed, gone"),
    ),
    mutant(
        "missed-counts-as-announced", "what no webhook announced counts as announced",
        ("reconcile/writer.py",
         'change.update(recovered=True, due=(not is_coarse and change["due"]) or "missed")\n',
         'change.update(announced_at=now, due="seen")\n'),
        kinds="webhooks", hours=1.5,
    ),
    mutant(
        "late-counts-as-missed", "a webhook that comes after the poll changes no figure",
        ("reconcile/queries.py",
         "        await session.execute(_ANNOUNCE[store.is_sqlite], values)\n",
         "        pass\n"),
        kinds="webhooks deaf late", hours=1.5, seed=3,
    ),
    mutant(
        "feed-leaves-one-out", "the change after each page of the feed is given to nobody",
        ("reconcile/feed.py",
         "                .where(col(Change.position) > position)\n",
         "                .where(col(Change.position) > position + (1 if position else 0))\n"),
    ),
    mutant(
        "token-in-the-audit", "the audit keeps the token that was given to the product",
        ("access/issue.py", '        "detail": {"expires_at": expires_at},\n',
         '        "detail": {"expires_at": expires_at, "token": token.access_token},\n'),
    ),
    mutant(
        "dead-in-silence", "events are given up, and nobody is told",
        ("sweep/stream.py", "    if not said:\n        return None\n    text = f\"{' and ",
         "    if said is not None:\n        return None\n    text = f\"{' and "),
        kinds="forged", hours=1.5, seed=2,
    ),
    mutant(
        "quiet-hours-ignored", "incidents are announced in quiet hours as at any other time",
        ("notify/policy.py", "    if quiet.holds(at):\n        return Held",
         "    if False:\n        return Held"),
        kinds="quiet logins systems", hours=1.5, seed=2,
    ),
    mutant(
        "cap-ignored", "every incident has a first message of its own, however many an hour",
        ("notify/policy.py", "            elif len(recent) < cap - 1:\n",
         "            elif len(recent) < 1000:\n"),
        kinds="caps logins systems", hours=1.5, seed=3,
    ),
    mutant(
        "mute-ignored", "of an incident that is muted as much is said as of any other",
        ("notify/policy.py", "        if silence.starts_at <= at < silence.ends_at:\n",
         "        if False:\n"),
        kinds="mutes sick", sick="hang", hours=9.0, pace=8.0,
    ),
    mutant(
        "pause-ignored", "a pause that Makini asks for is kept by nobody",
        ("budget.py",
         "        closed = await self._pause_calls(app, connection or OF_APP, until)\n",
         "        return\n"),
        kinds="sick episodes", sick="429", hours=1.5,
    ),
    mutant(
        "tried-without-a-pause", "an event that fails is tried again at once",
        ("consumer/events.py",
         "    wait = 2.0 ** min(attempts, 10)\n", "    wait = 0.0\n"),
        kinds="sick", sick="500",
    ),
    mutant(
        "lost-logins-are-ours", "the minutes in which a login is lost are put down to us",
        ("availability/decide.py",
         '    if health == "reauthorization_required":\n        return WaitedFor.customer_login\n',
         '    if health == "reauthorization_required":\n        return WaitedFor.us\n'),
        kinds="logins", hours=2.0, personality={"auth_event": "connection.auth_required"},
    ),
    mutant(
        "gone-records-stay", "what two complete listings lack is kept for good",
        ("reconcile/deletes.py",
         '    return "agreed" if started - absent_since >= apart else "again"\n',
         '    return "again"\n'),
        kinds="anew logins", hours=2.0, personality={
            "keeps_id": False, "renames_keys": False, "soft_deletes": False, "first_sync": 0.0,
        },
    ),
    mutant(
        "nobody-is-reminded", "a customer is asked to log in once, and never again",
        ("reconnect/remind.py", "    number = 0\n    for position",
         "    return 0\n    for position"),
        kinds="deadline", hours=64.0, pace=24.0,
    ),
    mutant(
        "reminded-at-night", "a customer is reminded by the operator's clocks",
        ("reconnect/remind.py", "    where = zone_of(zone)\n", '    where = zone_of("UTC")\n'),
        ("outbox/senders/mail.py",
         '        return put_off(now, self._zones.get(row.id), row.payload.get("ends", ()))\n',
         "        return None\n"),
        kinds="deadline", hours=64.0, pace=24.0, seed=3,
    ),
    mutant(
        "reminded-beside", "a reminder that waited with another mail is sent right after it",
        ("outbox/senders/mail.py",
         "        if is_reminder(row) and await is_written_to_anyway(",
         "        if False and await is_written_to_anyway("),
        kinds="deadline away product slack prefect", hours=4.0, lull=58.0, pace=24.0, seed=3,
    ),
    mutant(
        "ending-said-to-nobody", "customers are not told that their logins end",
        ("reconnect/ending.py", "    due: dict[str, list[Expiry]] = {}\n",
         "    due: dict[str, list[Expiry]] = {}\n    ending = []\n"),
        kinds="ending", hours=3.0,
    ),
    mutant(
        "ending-at-night", "that a login ends is said whenever it is noticed",
        ("reconnect/ending.py",
         "            not_before=put_off(now, expiries[0].time_zone, ends),\n", ""),
        ("outbox/senders/mail.py",
         '        return put_off(now, self._zones.get(row.id), row.payload.get("ends", ()))\n',
         "        return None\n"),
        kinds="ending",
    ),
    mutant(
        "ending-after-renewal", "a mail that a login ends is sent though it was renewed meanwhile",
        ("notify/letters.py", "                    col(Credential.refused_at).is_not(None),\n", ""),
        ("notify/letters.py",
         "                    col(ConnectLink.used_at).is_(None),\n"
         "                    col(ConnectLink.expires_at) > now,\n",
         "                    col(ConnectLink.expires_at) > now,\n"),
        kinds="renewed", seed=3,
    ),
)  # fmt: skip
