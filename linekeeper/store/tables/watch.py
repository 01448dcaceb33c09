"""Who is alive: the parts of Linekeeper, the work that must come by, and what Prefect reported."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from linekeeper.store.types import time


class PartHeartbeat(SQLModel, table=True):
    """The last sign of life of one part, by the database's clock.

    A part that ends in good order removes its row; a row that is not renewed is a part that died
    or hangs.
    """

    __tablename__ = "part_heartbeat"

    part: str = Field(primary_key=True)
    """`consumer:<owner>`, `receiver:<owner>`, `worker:<name>`, `prefect`, `sweep`, …"""
    kind: str
    host: str = ""
    since: datetime = time()
    """When it started, or when the present span of answers began."""
    at: datetime = time()
    mark: str = ""
    """What was seen last where others see it for the part (a worker's own last heartbeat); of a
    receiver, the address it answers at."""


class OpenProcess(SQLModel, table=True):
    """A process that has the database open; one that ends in good order removes its row."""

    __tablename__ = "open_process"

    owner: str = Field(primary_key=True)
    kind: str
    """`receiver`, `consumer`, `flow run` or `command`."""
    key: str
    """The fingerprint of the key it encrypts with."""
    since: datetime = time()
    at: datetime = time()
    """Its last sign of life, by the database's clock."""


class EndedRun(SQLModel, table=True):
    """A flow run that came to its own end: if it failed, it failed by what it found."""

    __tablename__ = "ended_run"

    run_id: str = Field(primary_key=True)
    at: datetime = time(index=True)


class RunAlert(SQLModel, table=True):
    """What one of Prefect's automations reported, until it is over."""

    __tablename__ = "run_alert"

    cause: str = Field(primary_key=True)
    """`<kind>:<deployment>`, or `pool_not_ready:<pool>`."""
    kind: str
    subject: str
    """The deployment's name, or the pool's."""
    run_id: str = ""
    run_name: str = ""
    state_message: str = ""
    at: datetime = time()
