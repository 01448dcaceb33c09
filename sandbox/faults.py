"""How answers go wrong, as `POST /_control/settings` sets it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(slots=True)
class Faults:
    """How answers go wrong; empty text is "as they should be"."""

    admin_list: str = ""
    """`500`, `html`, `truncated`, `repeat`, `429`, `429-bare`, `401` for the connection list."""
    data_list: str = ""
    """The same for record listings, and `short`: pages end early without saying so."""
    clock: str = ""
    """`minute`, `hour` or `day`: how coarse the times of records are (`personality`)."""
    history_days: str = ""
    """Listings hold only what changed within so many days."""
    overlap: str = ""
    """So many records of a page come again on the next one, and as many as that never."""
    most_listed: str = ""
    """Listings end after so many records, whatever their total says."""
    deleted: str = ""
    """`listed`: a deleted record stays listed, with its `deletedAt`, where its entity has times."""
    refused: str = ""
    """Entities that are refused, such as `eam/assets=403,eam/sites=500`."""
    token: str = ""
    """The same for `POST /link/token`, and `empty`: JSON without what was asked for."""
    status: str = ""
    """The same for the status of a connection."""
    paging: str = ""
    """`page` or `cursor`: the only style spoken; empty: whichever is asked for."""
    since: str = ""
    """`filter`, `modified_after` or `none`: what a listing understands; empty: both."""
    ended: str = ""
    """The keys of connections that are ended, by comma, though the list still shows them."""
    login: str = ""
    """What a login at a known connection does: empty, it stays itself; `new`: it becomes a new
    connection that keeps its records' keys; `prefix`: whose keys begin otherwise; `rename`: whose
    keys are others altogether; `shift`: whose keys are what the next record's were."""


def settable(target: DataclassInstance) -> list[str]:
    """Names of what a dataclass instance lets be set."""
    return [f.name for f in fields(target)]
