"""One row of the outbox, said in Slack such that saying it again is harmless.

An incident has one message, edited to what is true now, and a thread as its timeline. A row that
was tried before may have reached Slack: before anything is posted, it is looked for by its key.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from linekeeper.incidents.announce import first_key
from linekeeper.notify import compose, compose_others
from linekeeper.notify.channels import (
    message_of,
    remember,
    with_artifacts,
)
from linekeeper.notify.compose import Rendered
from linekeeper.notify.compose_others import counts_subject
from linekeeper.notify.compose_others import group as compose_group
from linekeeper.notify.groups import is_waiting, load_group
from linekeeper.notify.merged import FLEET
from linekeeper.notify.outage import forget_merged
from linekeeper.notify.refusals import (
    GONE,
    NO_REPLIES,
    SlackTrouble,
)
from linekeeper.notify.routing import EarlierMessageWaits, later_reminds, withheld_texts
from linekeeper.notify.slack_channel import Posted, Posts
from linekeeper.notify.steps import Step, step_in
from linekeeper.notify.view import IncidentView, Links, artifacts, load_views
from linekeeper.outbox.sender import OutboxRow


class InvalidMessage(Exception):
    """The row says nothing that can be said, now or later."""


class Renderer(Posts):
    """Says rows in one channel.

    Raises `SlackTrouble`, `NoLongerOurs`, `InvalidMessage` and `EarlierMessageWaits`.
    """

    async def say(
        self, row: OutboxRow, view: IncidentView | None, group_key: str | None = None
    ) -> bool:
        """Do what `row` asks; `view` is its incident, if it has one that exists.

        `group_key` is the message it was announced in, if that is not its own. Returns whether
        Slack was asked for anything: there may be nothing to say beside another message.
        """
        match payload := row.dated(self._clock()):
            case {"do": "say"}:
                await self._say_text(row, payload)
            case {"do": "group", "group_key": str(key)}:
                return await self._show_group(row, key)
            case {"do": "show" | "timeline" | "remind"} if (
                group_key is None and view is not None and await self._is_unnotified(row, view)
            ):
                await forget_merged(self._store, [view.id])
                return False
            case {"do": "show"} if group_key is not None:
                return await self._edit_known(row, needed(row, view), group_key)
            case {"do": "show"}:
                posted = await self._show(row, needed(row, view), key=row.dedupe_key)
                if row.dedupe_key == first_key(payload["incident_id"]):
                    await self._render_earlier(row, posted)
            case {"do": "timeline", "text": str(text)}:
                return await self._write_entry(row, needed(row, view), text, group_key)
            case {"do": "remind", "step": str(), "why": str(why)}:
                return await self._remind(row, needed(row, view), step_in(payload), why, group_key)
            case _:
                raise InvalidMessage(f"{row.dedupe_key} asks for something unknown")
        return True

    async def _say_text(self, row: OutboxRow, payload: Mapping[str, Any]) -> None:
        page = (await self._linked(key)).artifact(key) if (key := payload.get("page")) else None
        match payload:
            case {"mrkdwn": str(text)}:
                await self._post_once(row, compose.ours(text), key=row.dedupe_key)
            case {"thread": str(subject), "text": str(text)}:
                await self._say_in_thread(row, subject, compose.note(text, page))
            case {"text": str(text)}:
                await self._post_once(row, compose.note(text, page), key=row.dedupe_key)
            case _:
                raise InvalidMessage(f"{row.dedupe_key} says nothing")

    async def _say_in_thread(self, row: OutboxRow, subject: str, entry: Rendered) -> None:
        """The first of its thread begins it; what follows is seen in the channel too."""
        head = await self._message(subject)
        if head is not None:
            try:
                await self._post_once(row, entry, key=row.dedupe_key, thread=head, broadcast=True)
            except SlackTrouble as trouble:
                if trouble.code not in GONE | NO_REPLIES:
                    raise
            else:
                return
        posted = await self._post_once(row, entry, key=row.dedupe_key)
        await self._remember(subject, posted)

    async def _show(self, row: OutboxRow, view: IncidentView, *, key: str) -> Posted:
        rendered = await self._render(view)
        if view.resolved_at is not None:
            await self._end_counting(view)
        kept = await message_of(self._store, _subject(view), self._channel.name)
        if kept is not None and await self._edited(kept, rendered):
            known = Posted(kept.ts, kept.channel_id)
            if kept.stamp != self._links.forms_stamp:
                await self._remember(_subject(view), known)
            return known
        return await self._show_anew(row, view, rendered, key=key)

    async def _show_group(self, row: OutboxRow, key: str) -> bool:
        """Post or edit the one message about several incidents; False where it is about none."""
        known = await message_of(self._store, f"fold:{key}", self._channel.name)
        if known is None and not await self._is_posted(row, key=row.dedupe_key):
            views = await load_views(self._store, (await load_group(self._store, key)).incidents)
            merged = [each.id for each in views.values() if each.merged_into is not None]
            await forget_merged(self._store, merged)
        if not (await load_group(self._store, key)).incidents:
            return False
        rendered = await self._render_group(key)
        if known is not None and await self._edited(known, rendered):
            return True
        posted = await self._post_once(row, rendered, key=row.dedupe_key, edit_found=True)
        await self._remember(f"fold:{key}", posted)
        # What changed before others could find the message to edit.
        if (again := await self._render_group(key)) != rendered:
            await self._edit_if_possible(posted, again)
        return True

    async def _is_unnotified(self, row: OutboxRow, view: IncidentView) -> bool:
        """Whether it goes on in another incident, and there never was a message about this one."""
        if view.merged_into is None or await self._known(view) is not None:
            return False
        keys = (row.dedupe_key, f"{row.dedupe_key}:show")
        return not any([await self._is_posted(row, key=key) for key in keys])

    async def is_posted(self, row: OutboxRow, view: IncidentView | None, group: str | None) -> bool:
        """Whether Slack, which is asked, has it already from an earlier attempt."""
        head = None
        if row.payload.get("do") == "remind" and view is not None:
            shared = await self._shared(group) if group else None
            head = shared or await self._known(view)
        return await self._find_posted(row, key=row.dedupe_key, thread=head) is not None

    async def _is_posted(self, row: OutboxRow, *, key: str) -> bool:
        """Whether an earlier attempt may be seen in the channel."""
        return row.attempts > 1 and await self._find_posted(row, key=key) is not None

    async def _edit_known(self, row: OutboxRow, view: IncidentView, group_key: str) -> bool:
        """Edit what there is of an incident that was announced with others; nothing is posted."""
        grouped = await self._shared(group_key)
        if grouped is not None:
            rendered = await self._render_group(group_key)
            await self._edit_if_possible(grouped, rendered)
        own = await self._known(view)
        if own is None and row.attempts > 1:  # it may have been posted before it was to be shared
            own = await self._find_posted(row, key=row.dedupe_key)
        if own is not None:
            await self._edit_if_possible(own, await self._render(view))
        return bool(grouped or own)

    async def _remind(
        self, row: OutboxRow, view: IncidentView, step: Step, why: str, group_key: str | None
    ) -> bool:
        """Post in the thread and mention the owners; what is no reminder is seen in the channel
        too. False where it is over or somebody took it, or where a later one waits as well.

        What nobody was notified of before it began again has its message all the same."""
        is_taken = view.acknowledged_at is not None and step.kind != "worse"
        if view.resolved_at is not None or is_taken:
            is_alone = step.kind == "reopened" and group_key is None
            is_new = is_alone and await self._known(view) is None
            if is_new:
                await self._show(row, view, key=f"{row.dedupe_key}:show")
            return is_new
        if row.is_late(self._clock()) and await later_reminds(self._store, row):
            return False
        entry = compose_others.reminder(view, step, why, now=self._clock())
        try:
            loud = step.kind in ("escalation", "reopened", "worse")
            await self._reply(row, view, entry, group_key, broadcast=loud)
        except SlackTrouble as trouble:
            if trouble.code not in NO_REPLIES:
                raise
            await self._post_once(row, entry, key=row.dedupe_key)
        return True

    async def _render_earlier(self, row: OutboxRow, head: Posted) -> None:
        """The entries that were suppressed while nobody was to be notified of the incident."""
        texts = await withheld_texts(self._store, row.ordering_key)
        if texts:
            entry = compose.note("\n".join(texts))
            try:
                await self._post_once(row, entry, key=f"{row.dedupe_key}:earlier", thread=head)
            except SlackTrouble as trouble:
                if trouble.code not in NO_REPLIES:
                    raise

    async def _shared(self, group_key: str) -> Posted | None:
        return await self._message(f"fold:{group_key}")

    async def _render_group(self, key: str) -> Rendered:
        group = await load_group(self._store, key)
        views = await load_views(self._store, group.incidents, self._apps)
        wider = {view.merged_into.page for view in views.values() if view.merged_into}
        links = await self._linked(*sorted({FLEET, *wider}))
        return compose_group(group.kind, list(views.values()), links=links)

    async def _remember(self, subject: str, posted: Posted) -> None:
        where, stamp = {"ts": posted.ts, "channel_id": posted.channel_id}, self._links.forms_stamp
        now, name = self._clock(), self._channel.name
        await remember(self._store, subject, name, **where, now=now, stamp=stamp)

    async def _show_anew(
        self, row: OutboxRow, view: IncidentView, rendered: Rendered, *, key: str
    ) -> Posted:
        posted = await self._post_once(row, rendered, key=key, edit_found=True)
        await self._remember(_subject(view), posted)
        return posted

    async def _write_entry(
        self, row: OutboxRow, view: IncidentView, text: str, group_key: str | None
    ) -> bool:
        """Where replies are not taken the message itself has to do. Under one that it shares with
        others, which has a line of it, only who joined it is said."""
        is_shared = group_key is not None and await self._known(view) is None
        joined, counted = row.payload.get("joined"), None
        if is_shared and view.resolved_at is not None:
            return False
        if "counts" in row.payload:
            entry = compose_others.affected(view, is_titled=is_shared)
            counted = await message_of(self._store, counts_subject(view), self._channel.name)
            if counted is not None and await self._edited(counted, entry):
                return True
        elif is_shared and joined:
            entry = compose_others.joined(view, str(joined))
        else:
            entry = compose.note(text)
        if is_shared and not joined and counted is None:
            return False
        try:
            posted = await self._reply(row, view, entry, group_key if is_shared else None)
        except SlackTrouble as trouble:
            if trouble.code not in NO_REPLIES:
                raise
            return False
        if "counts" in row.payload:
            await self._remember(counts_subject(view), posted)
        return True

    async def _end_counting(self, view: IncidentView) -> None:
        """What the reply that counts says is true when it is over, too."""
        if (counted := await self._message(counts_subject(view))) is not None:
            entry = compose_others.affected(view, is_titled=False)
            await self._edit_if_possible(counted, entry)

    async def _reply(
        self,
        row: OutboxRow,
        view: IncidentView,
        entry: Rendered,
        group_key: str | None,
        *,
        broadcast: bool = False,
    ) -> Posted:
        """In the thread of the message that it shares with others, or of its own."""
        post = partial(self._post_once, row, entry, key=row.dedupe_key, broadcast=broadcast)
        shared = await self._shared(group_key) if group_key else None
        if group_key and not shared and await is_waiting(self._store, group_key):
            raise EarlierMessageWaits("the message about several incidents goes first")
        for head in filter(None, (shared, await self._known(view))):
            try:
                return await post(thread=head)
            except SlackTrouble as trouble:
                if trouble.code not in GONE:
                    raise
        rendered, key = await self._render(view), f"{row.dedupe_key}:show"
        return await post(thread=await self._show_anew(row, view, rendered, key=key))

    async def _known(self, view: IncidentView) -> Posted | None:
        return await self._message(_subject(view))

    async def _render(self, view: IncidentView) -> Rendered:
        return compose.incident(view, now=self._clock(), links=await self._linked(*artifacts(view)))

    async def _linked(self, *keys: str) -> Links:
        return await with_artifacts(self._store, self._links, keys)


def needed(row: OutboxRow, view: IncidentView | None) -> IncidentView:
    """The incident that `row` is about. Raises `InvalidMessage`."""
    if view is None:
        raise InvalidMessage(f"the incident {row.payload.get('incident_id')} is gone")
    return view


def _subject(view: IncidentView) -> str:
    return f"incident:{view.id}"
