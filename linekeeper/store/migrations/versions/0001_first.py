"""The first schema.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import Id, Json, UtcDateTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False, unique=True),
        sa.Column("digest", sa.String(), nullable=False, unique=True),
        sa.Column("scopes", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("last_used_at", UtcDateTime(), nullable=True),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
    )
    op.create_table(
        "app_setting",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "app_state",
        sa.Column("app", sa.String(), primary_key=True),
        sa.Column("budget", Json, nullable=False),
        sa.Column("circuit", Json, nullable=False),
        sa.Column("last_list_at", UtcDateTime(), nullable=True),
    )
    op.create_table(
        "audit",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("at", UtcDateTime(), nullable=False, index=True),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("detail", Json, nullable=False),
    )
    op.create_table(
        "customer",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False, unique=True),
        sa.Column("slug", sa.String(), nullable=False, unique=True),
        sa.Column("time_zone", sa.String(), nullable=False),
        sa.Column("locale", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("critical", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "delivery_count",
        sa.Column("app", sa.String(), primary_key=True),
        sa.Column("cause", sa.String(), primary_key=True),
        sa.Column("minute", UtcDateTime(), primary_key=True, index=True),
        sa.Column("count", sa.Integer(), nullable=False),
    )
    op.create_table(
        "feed_end",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("position", sa.Integer(), nullable=False),
    )
    op.create_table(
        "incident",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("detail", Json, nullable=False),
        sa.Column("opened_at", UtcDateTime(), nullable=False),
        sa.Column("acknowledged_at", UtcDateTime(), nullable=True),
        sa.Column("acknowledged_by", sa.String(), nullable=True),
        sa.Column("resolved_at", UtcDateTime(), nullable=True, index=True),
        sa.Column("reported_at", UtcDateTime(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
    )
    op.create_index(
        "incident_open_once",
        "incident",
        ["cause"],
        unique=True,
        sqlite_where=sa.text("resolved_at IS NULL"),
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_index("incident_status", "incident", ["status"])
    op.create_table(
        "lease",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
    )
    op.create_table(
        "notice_channel",
        sa.Column("channel", sa.String(), primary_key=True),
        sa.Column("trouble", sa.String(), nullable=False),
        sa.Column("needs_mending", sa.Boolean(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "notice_message",
        sa.Column("subject", sa.String(), primary_key=True),
        sa.Column("channel", sa.String(), primary_key=True),
        sa.Column("ts", sa.String(), nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "outage",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=False),
        sa.Column("found_at", UtcDateTime(), nullable=False),
        sa.Column("covered_at", UtcDateTime(), nullable=True),
        sa.Column("detail", Json, nullable=False),
    )
    op.create_index("outage_once", "outage", ["since"], unique=True)
    op.create_table(
        "outbox",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("seq", Id(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("dedupe_key", sa.String(), nullable=False, unique=True),
        sa.Column("lane", sa.String(), nullable=False),
        sa.Column("payload", Json, nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("next_attempt_at", UtcDateTime(), nullable=False),
        sa.Column("claimed_by", sa.String(), nullable=True),
        sa.Column("claimed_until", UtcDateTime(), nullable=True),
        sa.Column("settled_at", UtcDateTime(), nullable=True, index=True),
    )
    op.create_index("outbox_due", "outbox", ["channel", "status", "next_attempt_at"])
    op.create_index("outbox_lane", "outbox", ["lane", "status", "seq"])
    op.create_table(
        "preflight_report",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("vantage", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("verdicts", Json, nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
    )
    op.create_index("preflight_report_of", "preflight_report", ["target", "vantage", "at"])
    op.create_table(
        "receiver_heartbeat",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("receiver", sa.String(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False, index=True),
    )
    op.create_table(
        "rejected_delivery",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("headers", Json, nullable=False),
    )
    op.create_index("rejected_delivery_of", "rejected_delivery", ["app", "at"])
    op.create_table(
        "silence",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("starts_at", UtcDateTime(), nullable=False),
        sa.Column("ends_at", UtcDateTime(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
    )
    op.create_index("silence_ends", "silence", ["ends_at"])
    op.create_table(
        "connection",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("makini_key", sa.String(), nullable=False),
        sa.Column("makini_id", sa.String(), nullable=True),
        sa.Column("customer_id", Id(), sa.ForeignKey("customer.id"), nullable=True, index=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("slug", sa.String(), nullable=False, unique=True),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("hosting", sa.String(), nullable=False),
        sa.Column("tier", sa.String(), nullable=True),
        sa.Column("tags", Json, nullable=False),
        sa.Column("setup", sa.String(), nullable=False),
        sa.Column("health", sa.String(), nullable=False),
        sa.Column("health_since", UtcDateTime(), nullable=False),
        sa.Column("suspect", sa.Boolean(), nullable=False),
        sa.Column("list_status", sa.String(), nullable=True),
        sa.Column("sync_status", sa.String(), nullable=True),
        sa.Column("last_checked_at", UtcDateTime(), nullable=True),
        sa.Column("last_answered_at", UtcDateTime(), nullable=True),
        sa.Column("last_good_at", UtcDateTime(), nullable=True),
        sa.Column("last_sync_at", UtcDateTime(), nullable=True),
        sa.Column("last_webhook_at", UtcDateTime(), nullable=True),
        sa.Column("next_probe_at", UtcDateTime(), nullable=True),
        sa.Column("judged", Json, nullable=False),
        sa.Column("missing_since", UtcDateTime(), nullable=True),
        sa.Column("replaced_by", Id(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
    )
    op.create_index("connection_due", "connection", ["app", "next_probe_at"])
    op.create_index("connection_health", "connection", ["health"])
    op.create_index("connection_makini_id", "connection", ["app", "makini_id"])
    op.create_index("connection_once", "connection", ["app", "makini_key"], unique=True)
    op.create_table(
        "contact",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("customer_id", Id(), sa.ForeignKey("customer.id"), nullable=False, index=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
    )
    op.create_index("contact_once", "contact", ["customer_id", "email"], unique=True)
    op.create_table(
        "implementation",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("key", sa.String(), nullable=False, unique=True),
        sa.Column("slug", sa.String(), nullable=False, unique=True),
        sa.Column("customer_id", Id(), sa.ForeignKey("customer.id"), nullable=False, index=True),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("complexity", sa.String(), nullable=False),
        sa.Column("hosting", sa.String(), nullable=False),
        sa.Column("custom_workflows", sa.Integer(), nullable=False),
        sa.Column("kickoff", sa.Date(), nullable=False),
        sa.Column("committed", sa.Date(), nullable=True),
        sa.Column("country", sa.String(), nullable=True),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("held_because", sa.String(), nullable=True),
        sa.Column("template", Json, nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("started_by", sa.String(), nullable=False),
        sa.Column("live_at", UtcDateTime(), nullable=True),
        sa.Column("planned_p50", sa.Date(), nullable=False),
        sa.Column("planned_p80", sa.Date(), nullable=False),
        sa.Column("p50", sa.Date(), nullable=False),
        sa.Column("p80", sa.Date(), nullable=False),
        sa.Column("chance", sa.Float(), nullable=True),
        sa.Column("commitment", sa.String(), nullable=False),
        sa.Column("progress", sa.Float(), nullable=False),
        sa.Column("forecast_at", UtcDateTime(), nullable=False),
        sa.Column("digest", sa.String(), nullable=True),
        sa.Column("told", sa.String(), nullable=False),
        sa.Column("actual", Json, nullable=False),
    )
    op.create_index("implementation_status", "implementation", ["status"])
    op.create_table(
        "notice",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("incident_id", Id(), sa.ForeignKey("incident.id"), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("fold", sa.String(), nullable=True),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False, index=True),
    )
    op.create_index("notice_fold", "notice", ["fold"])
    op.create_index("notice_once", "notice", ["incident_id", "channel", "step"], unique=True)
    op.create_table(
        "reconnect",
        sa.Column("incident_id", Id(), sa.ForeignKey("incident.id"), primary_key=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("run_generation", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("opened_at", UtcDateTime(), nullable=False),
        sa.Column("deadline_at", UtcDateTime(), nullable=False),
        sa.Column("answers", sa.Integer(), nullable=False),
        sa.Column("snoozed_until", UtcDateTime(), nullable=True),
        sa.Column("windows", Json, nullable=False),
        sa.Column("counts", Json, nullable=False),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("closed_at", UtcDateTime(), nullable=True),
    )
    op.create_index("reconnect_open", "reconnect", ["closed_at"])
    op.create_table(
        "change",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("entity", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("op", sa.String(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=True),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("recovered", sa.Boolean(), nullable=False),
        sa.Column("announced_at", UtcDateTime(), nullable=True),
        sa.Column("due", sa.String(), nullable=True),
    )
    op.create_index("change_at", "change", ["at"])
    op.create_index(
        "change_due",
        "change",
        ["connection_id", "entity"],
        sqlite_where=sa.text("due IS NOT NULL"),
        postgresql_where=sa.text("due IS NOT NULL"),
    )
    op.create_index("change_of", "change", ["connection_id", "entity", "key", "seq"])
    op.create_index("change_once", "change", ["connection_id", "seq"], unique=True)
    op.create_index("change_position", "change", ["position"], unique=True)
    op.create_index(
        "change_unplaced",
        "change",
        ["connection_id", "seq"],
        sqlite_where=sa.text("position IS NULL"),
        postgresql_where=sa.text("position IS NULL"),
    )
    op.create_table(
        "connect_link",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), nullable=True),
        sa.Column("customer_id", Id(), sa.ForeignKey("customer.id"), nullable=True),
        sa.Column("incident_id", Id(), sa.ForeignKey("incident.id"), nullable=True),
        sa.Column("system", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("used_at", UtcDateTime(), nullable=True),
        sa.Column("used_for", Id(), nullable=True),
    )
    op.create_index("connect_link_connection", "connect_link", ["connection_id"])
    op.create_index("connect_link_of", "connect_link", ["incident_id", "connection_id"])
    op.create_table(
        "credential",
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), primary_key=True),
        sa.Column("access_token", sa.String(), nullable=False),
        sa.Column("refresh_token", sa.String(), nullable=True),
        sa.Column("expires_at", UtcDateTime(), nullable=True),
        sa.Column("minted", sa.Boolean(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "credit_entry",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), nullable=True, index=True),
        sa.Column("subject", sa.String(), nullable=True, index=True),
        sa.Column("implementation_id", Id(), sa.ForeignKey("implementation.id"), nullable=True),
        sa.Column("delta", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False, index=True),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
    )
    op.create_table(
        "deletion",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), nullable=False),
        sa.Column("entity", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("live", sa.Integer(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=True),
        sa.Column("decided_at", UtcDateTime(), nullable=True),
    )
    op.create_index("deletion_of", "deletion", ["connection_id", "entity"])
    op.create_index("deletion_status", "deletion", ["status"])
    op.create_table(
        "drift",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), nullable=False),
        sa.Column("entity", sa.String(), nullable=False),
        sa.Column("run_at", UtcDateTime(), nullable=False),
        sa.Column("missed", sa.Integer(), nullable=False),
        sa.Column("late", sa.Integer(), nullable=False),
        sa.Column("mismatched", sa.Integer(), nullable=False),
        sa.Column("deleted", sa.Integer(), nullable=False),
        sa.Column("webhooks_seen", sa.Integer(), nullable=False),
        sa.Column("late_seconds", sa.Float(), nullable=False),
        sa.Column("cause", sa.String(), nullable=True),
    )
    op.create_index("drift_at", "drift", ["run_at"])
    op.create_index("drift_of", "drift", ["connection_id", "run_at"])
    op.create_table(
        "feed",
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), primary_key=True),
        sa.Column("last_seq", sa.Integer(), nullable=False),
    )
    op.create_table(
        "gate",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("implementation_id", Id(), sa.ForeignKey("implementation.id"), nullable=False),
        sa.Column("gate", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("check_name", sa.String(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("assignee", sa.String(), nullable=False),
        sa.Column("opened_at", UtcDateTime(), nullable=True),
        sa.Column("done_at", UtcDateTime(), nullable=True),
        sa.Column("done_by", sa.String(), nullable=True),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("skipped_because", sa.String(), nullable=True),
        sa.Column("blocks", Json, nullable=False),
        sa.Column("earliest", sa.Date(), nullable=True),
        sa.Column("due", sa.Date(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("answers", sa.Integer(), nullable=False),
        sa.Column("refusal", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("changes", sa.Integer(), nullable=False),
    )
    op.create_index("gate_once", "gate", ["implementation_id", "gate"], unique=True)
    op.create_index("gate_status", "gate", ["status"])
    op.create_table(
        "implementation_system",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("implementation_id", Id(), sa.ForeignKey("implementation.id"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("cost", sa.Integer(), nullable=False),
        sa.Column("target", sa.String(), nullable=True),
        sa.Column("connects", sa.Date(), nullable=True),
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), nullable=True),
    )
    op.create_index("implementation_system_connection", "implementation_system", ["connection_id"])
    op.create_index(
        "implementation_system_once",
        "implementation_system",
        ["implementation_id", "number"],
        unique=True,
    )
    op.create_table(
        "incident_connection",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("incident_id", Id(), sa.ForeignKey("incident.id"), nullable=False),
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("joined_at", UtcDateTime(), nullable=False),
        sa.Column("left_at", UtcDateTime(), nullable=True),
        sa.Column("reported_kind", sa.String(), nullable=True),
    )
    op.create_index(
        "incident_connection_live_once",
        "incident_connection",
        ["connection_id", "topic"],
        unique=True,
        sqlite_where=sa.text("left_at IS NULL"),
        postgresql_where=sa.text("left_at IS NULL"),
    )
    op.create_index("incident_connection_of", "incident_connection", ["incident_id"])
    op.create_table(
        "observation",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False, index=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("applied", sa.Boolean(), nullable=False),
        sa.Column("code", sa.String(), nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.Column("latency", sa.Float(), nullable=True),
    )
    op.create_index("observation_of", "observation", ["connection_id", "at"])
    op.create_table(
        "record",
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), primary_key=True),
        sa.Column("entity", sa.String(), primary_key=True),
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("updated_at", UtcDateTime(), nullable=True),
        sa.Column("deleted_at", UtcDateTime(), nullable=True),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.Column("absent_since", UtcDateTime(), nullable=True),
        sa.Column("deletion_id", Id(), nullable=True),
    )
    op.create_index(
        "record_absent",
        "record",
        ["connection_id", "entity", "absent_since"],
        sqlite_where=sa.text("absent_since IS NOT NULL"),
        postgresql_where=sa.text("absent_since IS NOT NULL"),
    )
    op.create_index(
        "record_deletion",
        "record",
        ["deletion_id"],
        sqlite_where=sa.text("deletion_id IS NOT NULL"),
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.create_index("record_key", "record", ["key", "entity"])
    op.create_table(
        "transition",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False, index=True),
        sa.Column("axis", sa.String(), nullable=False),
        sa.Column("before", sa.String(), nullable=False),
        sa.Column("after", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("evidence", Json, nullable=False),
    )
    op.create_index("transition_of", "transition", ["connection_id", "at"])
    op.create_table(
        "watermark",
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), primary_key=True),
        sa.Column("entity", sa.String(), primary_key=True),
        sa.Column("position", UtcDateTime(), nullable=True),
        sa.Column("moved_at", UtcDateTime(), nullable=True),
        sa.Column("polled_at", UtcDateTime(), nullable=True),
        sa.Column("full_at", UtcDateTime(), nullable=True),
        sa.Column("confirm_at", UtcDateTime(), nullable=True),
        sa.Column("offered", sa.Boolean(), nullable=False),
        sa.Column("filtered", sa.Boolean(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
    )
    op.create_table(
        "webhook_event",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("delivery_key", sa.String(), nullable=False),
        sa.Column("merge_key", sa.String(), nullable=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), nullable=True),
        sa.Column("connection_ref", sa.String(), nullable=True),
        sa.Column("url_connection", sa.String(), nullable=True),
        sa.Column("event", sa.String(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("entity", sa.String(), nullable=True),
        sa.Column("event_at", UtcDateTime(), nullable=True),
        sa.Column("lane", sa.String(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("next_attempt_at", UtcDateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("claimed_by", sa.String(), nullable=True),
        sa.Column("processed_at", UtcDateTime(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("reported_at", UtcDateTime(), nullable=True),
        sa.Column("replay_of", Id(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
    )
    op.create_index(
        "webhook_event_dead",
        "webhook_event",
        ["processed_at"],
        sqlite_where=sa.text("status = 'dead'"),
        postgresql_where=sa.text("status = 'dead'"),
    )
    op.create_index(
        "webhook_event_due",
        "webhook_event",
        ["rank", "next_attempt_at", "id"],
        sqlite_where=sa.text("status = 'pending'"),
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "webhook_event_lane",
        "webhook_event",
        ["lane", "id"],
        sqlite_where=sa.text("status = 'pending' AND attempts > 0"),
        postgresql_where=sa.text("status = 'pending' AND attempts > 0"),
    )
    op.create_index(
        "webhook_event_merge",
        "webhook_event",
        ["merge_key"],
        unique=True,
        sqlite_where=sa.text("merge_key IS NOT NULL"),
        postgresql_where=sa.text("merge_key IS NOT NULL"),
    )
    op.create_index(
        "webhook_event_of",
        "webhook_event",
        ["connection_id", "received_at"],
        sqlite_where=sa.text("connection_id IS NOT NULL"),
        postgresql_where=sa.text("connection_id IS NOT NULL"),
    )
    op.create_index("webhook_event_once", "webhook_event", ["app", "delivery_key"], unique=True)
    op.create_index(
        "webhook_event_replayed",
        "webhook_event",
        ["replay_of"],
        sqlite_where=sa.text("replay_of IS NOT NULL"),
        postgresql_where=sa.text("replay_of IS NOT NULL"),
    )
    op.create_index(
        "webhook_event_unrouted",
        "webhook_event",
        ["processed_at"],
        sqlite_where=sa.text("status = 'unrouted'"),
        postgresql_where=sa.text("status = 'unrouted'"),
    )
    op.create_table(
        "webhook_hour",
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), primary_key=True),
        sa.Column("hour", sa.Integer(), primary_key=True, index=True),
        sa.Column("events", sa.Integer(), nullable=False),
    )
    op.create_table(
        "webhook_trust",
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), primary_key=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("missed", sa.Integer(), nullable=False),
        sa.Column("late", sa.Integer(), nullable=False),
        sa.Column("webhooks_seen", sa.Integer(), nullable=False),
        sa.Column("late_seconds", sa.Float(), nullable=False),
        sa.Column("measured_at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "connect_attempt",
        sa.Column("nonce", sa.String(), primary_key=True),
        sa.Column("link_id", Id(), sa.ForeignKey("connect_link.id"), nullable=False, index=True),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
    )
