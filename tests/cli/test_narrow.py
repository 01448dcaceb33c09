"""At 80 columns nothing is cut off: a table is as wide as the terminal, and words stay whole."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import Session, create_engine

from linekeeper.clock import utcnow
from linekeeper.store.tables import ApiKey, Audit, Connection, Transition
from tests.cli.commands import CommandLine

KEY = "04f30824c99f1719e753c276"


@pytest.fixture
def narrow(command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A lost login in a terminal of 80 columns."""
    command.migrated()
    monkeypatch.setenv("COLUMNS", "80")
    now = utcnow()
    engine = create_engine(f"sqlite:///{command.home}/home/linekeeper.db")
    with Session(engine) as session:
        connection = Connection(
            app="default",
            makini_key=KEY,
            name="Westerwaldquellen · SAP S/4HANA",
            slug="westerwaldquellen",
            provider="SAP S/4HANA",
            setup="live",
            health="reauthorization_required",
            health_since=now,
            created_at=now - timedelta(hours=3),
        )
        session.add(connection)
        session.flush()
        for axis, before, after, at in (
            ("setup", "syncing", "live", now - timedelta(hours=3)),
            ("health", "unknown", "healthy", now - timedelta(hours=2)),
            ("health", "healthy", "reauthorization_required", now - timedelta(hours=1)),
        ):
            session.add(
                Transition(
                    connection_id=connection.id,
                    axis=axis,
                    before=before,
                    after=after,
                    at=at,
                    source="tests",
                )
            )
        session.add(
            Audit(
                at=now,
                by="operator (Slack)",
                action="token.renewal_interrupted",
                subject=connection.id,
            )
        )
        at = datetime(2026, 12, 2, 19, 48, tzinfo=UTC)
        session.add(
            ApiKey(
                name="dashboard of the operations team",
                digest="x" * 64,
                scopes=["observations:write"],
                created_by="operator (command line)",
                created_at=at,
                last_used_at=at,
                revoked_at=at,
            )
        )
        session.commit()
    engine.dispose()
    return command


@pytest.mark.parametrize(
    ("asked", "whole"),
    [
        ("connection list", [KEY, "Reauthorization", "required", "SAP S/4HANA"]),
        ("audit", ["token.renewal_interrupted", "operator (Slack)"]),
        ("key list", ["observations:write", "made 2026-12-02 19:48", "revoked 2026-12-02 19:48"]),
        ("availability", ["SAP S/4HANA", "Customer's", "login"]),
    ],
)
def test_a_table_fits_and_keeps_its_words(
    narrow: CommandLine, asked: str, whole: list[str]
) -> None:
    said = narrow(*asked.split())
    assert said.code == 0, said.err
    assert max(len(line) for line in said.out.splitlines()) <= 80
    if "┃" in said.out:
        assert said.out.splitlines()[0].endswith("┓")
    for word in whole:
        assert word in said.out, said.out
