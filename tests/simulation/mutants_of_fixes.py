"""Known defects: fixes of what universes had found, undone. Each has the life that showed it."""

from typing import Any

from tests.simulation.planting import Mutant, mutant


def undone(
    name: str,
    what: str,
    *edits: tuple[str, str, str],
    seed: int,
    hours: float = 0.5,
    kinds: str = "",
    **needs: Any,
) -> Mutant:
    """A fix undone, in the universe that showed it, as it draws its trouble by itself."""
    return mutant(name, what, *edits, kinds=kinds, seed=seed, hours=hours, **needs)


OF_FIXES = (
    undone(
        "kept-login-forgotten", "a kept login is forgotten for a later one by the same link",
        ("access/login.py",
         "            if kept is not None and not is_open:\n"
         "                await forget_pending(session, kept.id)\n",
         "            if not is_open and (kept is not None or how == \"done\"):\n"
         "                await session.execute(\n"
         "                    __import__(\"sqlalchemy\").text(\n"
         "                        \"DELETE FROM pending_login WHERE link_id = :link\"\n"
         "                    ), {\"link\": link.id},\n"
         "                )\n"),
        seed=30067,
    ),
    undone(
        "refused-read-is-a-lost-login", "reads that are refused after a good status lose the login",
        ("health/login_check.py",
         "    if status.outcome is not Outcome.login_lost:\n", "    if False:\n"),
        seed=30088,
    ),
    undone(
        "learned-tomorrow", "what was learned by a clock that was ahead is dated tomorrow",
        ("health/judge.py",
         "    return replace(observation, at=now) if observation.at > now + CLOCK_SLACK else"
         " observation\n",
         "    return observation\n"),
        seed=30509,
    ),
    undone(
        "waits-for-tomorrow", "a message that a clock that was ahead put off waits for that time",
        ("consumer/clock_ahead.py", "        for statement in _PUT_RIGHT:\n",
         "        for statement in (_PUT_RIGHT[0], *_PUT_RIGHT[2:]):\n"),
        seed=30108, kinds="ending day leased away mail",
    ),
    undone(
        "good-word-before-a-look", "a sync that completed undoes a lost login nobody looked at",
        ("health/makinis_word.py",
         "        return judged.evidence is None  # nobody has looked at it yet\n",
         "        return judged.own is Health.unknown and judged.evidence is None\n"),
        seed=31022,
    ),
    undone(
        "kept-login-holds-up-the-end", "a process that ends waits for an answer about a kept login",
        ("access/login.py", "            return await self._with_pair(_GotPair(pair, given))\n",
         "            return await to_its_end(\n"
         "                self._with_pair(_GotPair(pair, given)), BEFORE_SENDING\n"
         "            )\n"),
        seed=2, kinds="stopped",
    ),
    undone(
        "mailed-while-logging-in", "a person's press mails the link to who has just logged in",
        ("access/pending.py", "        return now - self.at < VERIFYING\n",
         "        return False\n"),
        seed=2, hours=0.75, kinds="doubted",
    ),
    undone(
        "waits-as-often-as-tried", "each try of an entity by hand doubles its wait",
        ("reconcile/failed.py", "POLICY.retry_after(now - since)",
         "POLICY.retry_after(POLICY.retry * (2.0 ** (failures - 1) - 1))"),
        seed=2, kinds="insisted",
    ),
    undone(
        "pause-by-a-clock-set-back", "a pause is longer by what the clock was set back meanwhile",
        ("budget.py", "until - max(now, refused_at) for name", "until - now for name"),
        seed=2, kinds="paused",
    ),
    undone(
        "dated-by-its-wish", "a probe is dated by when it was wanted, not by when it was sent",
        ("health/probe.py", "    return understand(status, max(at, sent), unread",
         "    return understand(status, at, unread"),
        seed=2, kinds="queued",
        personality={
            "recovery_event": "connection.status_changed", "status_lag": 0.0, "grain": 1e-6,
        },
    ),
    undone(
        "joined-unnamed", "who joins an incident that is a line of a summary is named nowhere",
        ("notify/renderer.py",
         "        if is_shared and view.resolved_at is not None:\n",
         "        if is_shared:\n"),
        seed=31745,
    ),
    undone(
        "contradicted-list-believed", "a list that lacks one that answers says who is gone",
        ("health/absence.py",
         "    if (was_refused or not can_be_asked) and not is_contradicted:\n",
         "    if was_refused or not can_be_asked:\n"),
        seed=32083,
    ),
    undone(
        "asked-tomorrow", "a list that has one again puts its probe off, by a clock of tomorrow",
        ("consumer/clock_ahead.py",
         "WHERE last_checked_at > :edge OR json_extract(judged, '$.asked_at') > :edge\n",
         "WHERE last_checked_at > :edge\n"),
        ("health/held.py", "    return observation.tried and row.",
         "    return observation.source == \"list\" and row."),
        seed=8, kinds="relisted", personality={"sync_events": False},
    ),
    undone(
        "sent-without-a-claim", "a message is sent though its claim was taken over meanwhile",
        ("notify/routing.py", "        if await session.scalar(_HELD, given) is None:\n",
         "        if False:\n"),
        seed=2, kinds="overtaken", personality={"auth_event": "", "status_lag": 0.0},
    ),
    undone(
        "said-again-at-night", "what begins anew while Slack is away is said in quiet hours",
        ("notify/outage.py", "_FIRST[:2],  # of each opening", "_FIRST,  # of each opening"),
        seed=1, kinds="reopened", personality={"status_lag": 0.0},
    ),
    undone(
        "unanswered-renewal-counts", "a renewal without an answer counts as one that gives none",
        ("tokens/caller.py",
         "        newer = await self._newer()\n        # What",
         "        self._is_renewed = True\n        newer = await self._newer()\n        # What"),
        seed=32846,
    ),
    undone(
        "kept-login-is-believed", "a late word on a kept login outranks that it is lost since",
        ("health/evidence.py",
         "_is_before_login(judged, observation) or _is_lost_since(judged, observation)",
         "_is_before_login(judged, observation)"),
        seed=6, kinds="relost",
        personality={"status_lag": 900.0, "mint": "short", "keeps_id": True},
    ),
    undone(
        "handed-on-to-nobody", "an event is settled though its app has just left the settings",
        ("consumer/events.py", "            if is_settled and event.app not in apps:",
         "            if False:"),
        seed=35003,
    ),
    undone(
        "asked-tomorrow-late", "what a clock that was ahead has asked is not asked until then",
        ("sweep/batch.py", "utcnow() + CLOCK_SLACK}", "utcnow() + 10_000 * CLOCK_SLACK}"),
        seed=35137,
    ),
    undone(
        "failed-sync-answers", "that a synchronization failed says that a lost login works",
        ("health/judge.py",
         "    broken = previous.disputed or previous.own in FALLEN - {Health.unknown}",
         "    broken = False"),
        ("health/judge.py",  # the second guard: a call decides
         "    if observation.is_good_event and awaits_call(previous, observation):\n",
         "    if (\n"
         "        observation.is_good_event and awaits_call(previous, observation)\n"
         "        and observation.outcome is not Outcome.sync_failing\n"
         "    ):\n"),
        seed=5, kinds="logins",
        personality={
            "auth_event": "connection.auth_required", "sync_events": True,
            "status_lag": 0.0, "sync_lies": False, "grain": 1e-6,
        },
    ),
    undone(
        "completed-sync-brings-a-token", "a sync that completed ends what only a login can end",
        ("health/makinis_word.py",
         "        return judged.own is _LOST and not observation.is_back\n",
         "        return False\n"),
        seed=35244,
    ),
    undone(
        "list-says-who-is-replaced", "a login takes the place of another that a cut list lacks",
        ("access/match.py",
         "    return wanted.unlisted_since is None or ours.taken_in_at <",
         "    return wanted.unlisted_since is not None and ours.taken_in_at > "),
        seed=60078,
    ),
    undone(
        "later-login-thrown-away", "of two logins by one link the one that ends first counts",
        ("access/superseded.py", "    owner = match.known or match.replaced\n",
         "    owner = match.known\n"),
        seed=60145,
    ),
    undone(
        "paused-until-tomorrow", "a pause by a clock that was ahead begins anew with each look",
        ("consumer/clock_ahead.py",
         "    select(func.max(col(CallPause.refused_at))).scalar_subquery(),\n",
         "    select(func.max(col(AppState.last_list_at))).scalar_subquery(),\n"),
        seed=70145,
    ),
    undone(
        "strays-pair-thrown-away", "who logs in by another's link, under a new id, is asked again",
        ("access/match.py",
         "    return gone[0] if len(gone) == 1 else None\n", "    return None\n"),
        seed=5, hours=0.75, kinds="logins mail buttons",
        personality={"keeps_id": False, "mint": "short", "status_lag": 0.0},
    ),
    undone(
        "older-record-is-lost", "a record that the first listing lacked is a lost webhook",
        ("reconcile/accounting.py",
         "FIRST_SYNC if is_older else next(named, None)\n", "next(named, None)\n"),
        seed=12794, hours=0.75,
    ),
    undone(
        "lists-without-end", "a second listing that breaks off begins again for ever",
        ("reconcile/marks.py", "    if mark is None or mark.position is None:\n",
         "    if mark is None or mark.full_at is None:\n"),
        seed=3, kinds="breaks",
        personality={"paging": "cursor", "page_cap": 25, "since": "filter"},
    ),
    undone(
        "empty-last-page", "an empty page that is said to be the last of several is taken for it",
        ("makini/paging.py",
         "            in_vain = page.last_page > 1 and self._ends_empty(",
         "            in_vain = self.number < page.last_page and self._ends_empty("),
        seed=7, kinds="breaks", hours=1.5,
        personality={"paging": "page", "page_cap": 25, "since": "none"},
    ),
    undone(
        "pair-given-up", "a new pair that can't be stored within a minute is given up",
        ("tokens/renew.py", "STORE_AGAIN_AFTER = (0.2, 1.0, 3.0, 10.0, 30.0)\n",
         "STORE_AGAIN_AFTER = (0.2,)\n"),
        seed=4, kinds="locked",
    ),
    undone(
        "stays-removed", "an app that is back in the settings counts as removed for good",
        ("sweep/app.py", "    back = sorted(removed & kept)\n", "    back = list[str]()\n"),
        seed=6, hours=1.5, kinds="settings systems logins",
    ),
)  # fmt: skip
