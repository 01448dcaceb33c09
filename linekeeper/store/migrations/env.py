"""Alembic's entry: runs on the connection `linekeeper.store.migrate` hands over."""

from alembic import context
from sqlmodel import SQLModel

from linekeeper.store import tables

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=SQLModel.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    transactional_ddl=True,
)
assert tables  # imported for the metadata it fills
context.run_migrations()
