"""The known defects that `--mutants` plants: fixes undone, and steps in the wrong order."""

from tests.simulation.mutants_of_fixes import OF_FIXES
from tests.simulation.mutants_of_secrets import OF_SECRETS
from tests.simulation.mutants_of_words import OF_WORDS
from tests.simulation.planting import mutant

MUTANTS = (
    mutant(
        "acknowledged-before-commit", "a webhook is answered before it is stored",
        ("inbox/intake.py", "            self.waiting.append((row, future))\n",
         "            if not future.done():\n"
         "                future.set_result(Receipt(row.id, True))\n"
         "            self.waiting.append((row, future))\n"),
        kinds="webhooks",
    ),
    mutant(
        "forwarded-outside-the-transaction", "the forward is written after the event is settled",
        ("consumer/events.py", "            await forward_events(",
         "            await settle(session, settled, now=now)\n"
         "            await session.commit()\n            await forward_events("),
        kinds="commits",
    ),
    mutant(
        "claim-out-of-order", "a later message is claimed while an earlier one waits for a retry",
        ("outbox/queue.py", "        if blocked:\n", "        if False:\n"),
        kinds="product calls",
    ),
    mutant(
        "claim-never-ends", "what a dead consumer had claimed is claimed for ever",
        ("outbox/queue.py", "until = now + timedelta(seconds=seconds)\n            given",
         "until = now + timedelta(days=30)\n            given"),
        ("consumer/alive.py", "    for owner in owners:\n", "    for owner in ():\n"),
        kinds="commits crash", seed=17,
    ),
    mutant(
        "lease-for-anybody", "a lease is taken from whoever holds it",
        ("store/leases.py",
         '{"by": owner, "now": now, "ends": until, "run": run_id}',
         '{"by": owner, "now": now + timedelta(days=1), "ends": until, "run": run_id}'),
        kinds="hands tokens", personality={"mint": "short"},
    ),
    mutant(
        "sent-though-refused", "a forward counts as sent whatever the product answers",
        ("outbox/senders/forward.py", "        if 200 <= status < 300:\n", "        if status:\n"),
        kinds="product calls",
    ),
    mutant(
        "lagging-status-clears", "a cached status undoes a lost login",
        ("health/evidence.py", "    if observation.source not in CACHED:\n        return False\n"
         "    if observation.outcome is Outcome.login_lost:\n        return _is_leftover",
         "    if observation.source:\n        return False\n"
         "    if observation.outcome is Outcome.login_lost:\n        return _is_leftover"),
        ("health/makinis_word.py",  # the second guard: the read before it is taken for found
         "    if judged.own is Health.reauthorization_required and observation.outcome in GOOD:\n",
         "    if False:\n"),
        kinds="logins",
        personality={"status_lag": 3600.0, "auth_event": "connection.auth_required"},
    ),
    mutant(
        "outdated-fail-is-believed", "a status from before a record was read loses the login",
        ("health/evidence.py",
         "        return _is_leftover(judged, observation) or _is_outdated(judged, observation)\n",
         "        return False\n"),
        kinds="logins tokens", personality={"status_lag": 900.0}, hours=1.5, seed=185,
    ),
    mutant(
        "entity-401-is-a-lost-login", "one entity's 401 is taken for a lost login",
        ("health/scope.py",
         "            whole = self.is_lost or self.whole is Whole.silent\n",
         "            whole = True\n"),
        ("health/scope.py", "Whole.login_lost if lost else Whole.answers",
         "Whole.login_lost"),
        kinds="sick", sick="401",
    ),
    mutant(
        "short-listing-deletes", "a listing below the source's own total proves records gone",
        ("reconcile/poll.py", "        inconsistent = whole and listing.lacks and not shifted\n",
         "        inconsistent = False\n"),
        kinds="sick", sick="lacking", personality={"since": "none", "paging": "page"}, hours=1.5,
    ),
    mutant(
        "truncated-list-disconnects", "connections that a truncated list lacks are disconnected",
        ("health/absence.py",
         "        return bool(self.broken) or self.is_short or self.missing > "
         "self.known * MISSING_SHARE\n",
         "        return False\n"),
        ("health/absence.py",  # where they answer for themselves, that alone would save them
         "    if row.last_answered_at is not None and row.last_answered_at > missing_since:\n",
         "    if row.last_answered_at is None:\n"),
        kinds="list", hours=1.5,
    ),
    mutant(
        "base64-signature-refused", "only one of the two documented encodings is accepted",
        ("inbox/verify.py", "    return _sha256_base64(value)\n", "    return None\n"),
        personality={"signature": "base64"},
    ),
    mutant(
        "first-page-only", "pages after the first are not read",
        ("makini/paging.py", "            return in_vain or self.number >= page.last_page\n",
         "            return in_vain or self.number >= 1\n"),
        personality={"paging": "page", "page_cap": 7}, seed=3,
    ),
    mutant(
        "cursor-not-followed", "a cursor is taken for the end",
        ("makini/paging.py",
         '        return [*self._size, ("cursor", cursor)]\n',
         "        return None\n"),
        personality={"paging": "cursor", "page_cap": 7}, seed=3,
    ),
    mutant(
        "watermark-after-its-position", "a poll asks from the position + 1 µs",
        ("reconcile/watermark.py",
         "    return position if is_a_source_time else position - unit\n",
         "    return position + _INSTANT\n"),
        kinds="webhooks", personality={"since": "filter", "grain": 86400.0}, hours=1.5, seed=3,
    ),
    mutant(
        "merge-key-survives-the-claim", "the same body after a claim is no new change",
        ("inbox/claim.py", '        also={"merge_key": None},\n', "        also={},\n"),
        personality={"webhook_id": "none"},
    ),
    mutant(
        "new-pair-not-stored", "a refreshed pair is used, and not stored",
        ("tokens/renew.py", "        async def keep() -> bool:\n",
         "        async def keep() -> bool:\n            return True\n"),
        kinds="tokens",
    ),
    mutant(
        "cancelled-refresh-loses-the-pair", "a refresh is cancelled after Makini rotated the pair",
        ("tokens/renew.py",
         "        return await to_its_end(self._renewed(stored), BEFORE_SENDING)\n",
         "        return await self._renewed(stored)\n"),
        kinds="tokens stops", seed=33,
    ),
    mutant(
        "incident-never-resolved", "an incident goes on after its cause",
        ("incidents/conclude.py", "    for identifier in decision.resolved:\n",
         "    for identifier in ():\n"),
        kinds="logins",
    ),
    mutant(
        "lost-login-is-no-trouble", "a lost login opens no incident",
        ("health/judge.py", "or health == Health.healthy:\n        return False\n",
         'or health in ("healthy", "reauthorization_required"):\n        return False\n'),
    ),
    mutant(
        "auth-event-ignored", "Makini's word that a login is lost is not read",
        ("consumer/connection_events.py", "            elif said.says is None:\n",
         "            elif said:\n"),
        personality={"status_lag": 3600.0, "auth_event": "connection.auth_required"},
    ),
    mutant(
        "told-once-or-never", "a message that Slack did not take is settled all the same",
        ("outbox/senders/slack.py",
         "is_said = await renderer.say(row, view, group_key)\n",
         "is_said = row.attempts > 1 or await renderer.say(row, view, group_key)\n"),
        kinds="slack calls logins systems", hours=1.5, seed=2,
    ),
    mutant(
        "concluded-in-silence", "incidents open and end, and nobody is notified",
        ("incidents/conclude.py", "    await announce(store, session, changes, now=now)\n",
         "    await announce(store, session, (), now=now)\n"),
        kinds="systems", personality={"status_lag": 0.0},
    ),
    mutant(
        "run-without-its-key", "a run is started again when the answer to its start was lost",
        ("outbox/senders/prefect.py",
         '                idempotency_key=payload.get("idempotency_key", row.dedupe_key),\n',
         '                idempotency_key=row.dedupe_key + __import__("linekeeper.clock")'
         ".clock.token_bytes(6).hex(),\n"),
        kinds="prefect logins", hours=1.5, seed=3,
    ),
    mutant(
        "token-in-plain-text", "an access token is stored as it is",
        ("tokens/stored.py",
         '            "access_token": store.cipher.encrypt(pair.access_token),\n',
         '            "access_token": pair.access_token,\n'),
    ),
    mutant(
        "forged-webhook-accepted", "a wrong signature is accepted",
        ("inbox/verify.py",
         "                return ACCEPTED\n        return Rejected(\"bad_signature\")\n",
         "                return ACCEPTED\n        return ACCEPTED\n"),
        kinds="forged",
    ),
    mutant(
        "settled-behind-a-barrier", "events are settled once all reads have ended",
        ("consumer/record_events.py", "            while queue and queue[0].is_answered:\n",
         "            while queue and all(\n"
         "                other[0].is_answered for other in self._held.values() if other\n"
         "            ):\n"),
        kinds="sick", sick="hang", seed=3,
    ),
    mutant(
        "one-limit-pauses-the-app", "the 429 of one connection pauses all others",
        ("makini/wire.py",
         "penalise(self.app.name, until, connection=paused_with)",
         "penalise(self.app.name, until, connection=None)"),
        kinds="sick", sick="429",
    ),
    mutant(
        "first-failure-ends-the-loop", "an entity that fails starves those behind it",
        ("reconcile/service.py",
         "        if reading.error is not None and reading.scope is not ErrorScope.entity:\n",
         "        if reading.error is not None:\n"),
        ("reconcile/service.py",
         "        for entity in failing_last(order.of_connection(target), marks)\n",
         "        for entity in sorted(order.of_connection(target))\n"),
        kinds="sick deaf", sick="403",
    ),
    mutant(
        "one-miss-is-unreachable", "one probe without an answer makes a connection unreachable",
        ("health/judge.py", "            gone = misses >= policy.misses_unreachable\n",
         "            gone = misses >= 1\n"),
        kinds="episodes", hours=1.5, seed=2,
    ),
    mutant(
        "healthy-is-never-probed", "only connections in trouble are probed",
        ("sweep/sweep.py",
         "        statement = statement.where(or_(urgent, critical, waiting))\n",
         "        statement = statement.where(or_(urgent, critical))\n"),
        personality={"status_lag": 0.0, "auth_event": ""}, seed=5,
    ),
    mutant(
        "nobody-is-asked", "a lost login opens an incident, and no case",
        ("incidents/conclude.py",
         "request_reconnects(ids)",
         "request_reconnects(())"),
        personality={"auth_event": "connection.auth_required"},
    ),
    mutant(
        "login-thrown-away", "the pair of a login is got and not kept",
        ("access/login.py",
         "            begun = await to_its_end(self._exchanged(makini, given), BEFORE_SENDING)\n",
         "            target = redirect_uri(self.rt.settings.resolved_public_url)\n"
         "            await makini.exchange_code(given, target)\n"
         '            return Ending("used", self.link.system)\n'),
        kinds="logins",
    ),
    mutant(
        "lost-runs-stay", "runs whose process is gone are never settled",
        ("tasks/prefect_adapter/lost_runs.py",
         "            if then is not None and await _is_still_so(client, run):\n",
         "            if then is not None and False:\n"),
        kinds="lost",
    ),
    mutant(
        "answer-counted-again", "a run that is taken twice acts twice on the answer of its form",
        ("reconnect/process.py", "or case.reconnect.answers >= number:\n", "or False:\n"),
        kinds="forms twice logins", personality={"auth_event": "connection.auth_required"},
    ),
    mutant(
        "deleted-at-ignored", "what a source lists as deleted is held for one that lives",
        ("reconcile/identity.py", "    return at is not None and at <= now + timedelta(days=1)\n",
         "    return False\n"),
        personality={"soft_deletes": True},
    ),
    mutant(
        "first-sync-is-believed", "what Makini has not read yet is taken for deleted",
        ("reconcile/deletes.py", '    return setup == "syncing" or', "    return False and"),
        kinds="logins", personality={
            "keeps_id": False, "renames_keys": False, "first_sync": 3600.0,
        }, hours=1.5,
    ),
    mutant(
        "forms-stay-as-they-were", "the form of a run that waits says what was so when it began",
        ("tasks/reconnect_runs.py", "        await renew(client, run, waiting_for(case))\n",
         "        pass\n"),
        kinds="storm", hours=1.5, seed=37,
    ),
    *OF_WORDS,
    *OF_SECRETS,
    *OF_FIXES,
)  # fmt: skip
