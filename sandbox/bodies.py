"""What a record of each entity says: field names are Makini's (MAKINI.md, Data API)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Source(Protocol):
    """The collection that a record belongs to."""

    seed: int

    def key(self, index: int) -> str: ...

    def sibling(self, entity: str, index: int) -> str | None: ...


_MACHINES = (
    "Centrifugal pump",
    "Belt conveyor",
    "Air compressor",
    "Gearbox",
    "Hydraulic press",
    "Chiller",
    "Boiler feed pump",
    "Cooling tower fan",
    "CNC mill",
    "Palletizer",
    "Rotary kiln",
    "Forklift",
)
_JOBS = ("Inspect", "Replace seal on", "Lubricate", "Align", "Repair", "Calibrate", "Clean")
_STATUS = ("Open", "Planned", "In progress", "Waiting for parts", "Completed", "Closed")
_SEVERITY = ("Low", "Medium", "High", "Critical")
_MAKERS = ("Grundfos", "Siemens", "ABB", "Atlas Copco", "SEW", "KSB", "Fanuc", "Toyota")
_SITES = ("Plant North", "Plant South", "Mill 2", "Warehouse A", "Tank farm", "Smelter")


def _mixed(source: Source, index: int) -> int:
    return (index * 2_654_435_761 + source.seed * 40_503) & 0x7FFFFFFF


def _work_order(source: Source, index: int, revision: int) -> dict[str, Any]:
    n = _mixed(source, index)
    status = (n + revision) % len(_STATUS)
    return {
        "key": source.key(index),
        "parentKey": None,
        "siteKey": source.sibling("eam/sites", n % 7),
        "locationKey": source.sibling("eam/locations", n % 31),
        "assetKey": source.sibling("eam/assets", n % 997),
        "title": f"{_JOBS[n % 7]} {_MACHINES[n % 12].lower()} {n % 900 + 100}",
        "code": f"WO-{index + 1:06d}",
        "status": _STATUS[status],
        "statusKey": f"{status + 1:02d}",
        "severity": _SEVERITY[n % 4],
        "instructions": "Lock out, tag out. Report findings.",
        "notes": f"Revision {revision}" if revision else None,
        "scheduledAt": None,
        "dueAt": None,
        "approvedAt": None,
        "completedAt": None,
        "completionRemarks": None,
        "estimatedTime": 30 * (n % 12 + 1),
        "actualTime": None,
        "tasks": [],
        "documents": [],
        "resources": [],
        "materialCount": n % 4,
    }


def _asset(source: Source, index: int, revision: int) -> dict[str, Any]:
    n = _mixed(source, index)
    return {
        "key": source.key(index),
        "siteKey": source.sibling("eam/sites", n % 7),
        "parentKey": None,
        "locationKey": source.sibling("eam/locations", n % 31),
        "name": f"{_MACHINES[n % 12]} {n % 900 + 100}",
        "description": f"Revision {revision}" if revision else None,
        "isPhysical": True,
        "isActive": True,
        "criticality": "ABC"[n % 3],
        "categoryName": _MACHINES[n % 12].split()[-1].title(),
        "makeName": _MAKERS[n % 8],
        "modelName": f"M{n % 97:02d}",
        "serialNumber": f"{n:010d}",
        "activatedAt": None,
        "deactivatedAt": None,
    }


def _purchase_order(source: Source, index: int, revision: int) -> dict[str, Any]:
    n = _mixed(source, index)
    net = (n % 90_000 + 1_000) / 10
    return {
        "key": source.key(index),
        "siteKey": source.sibling("eam/sites", n % 7),
        "organizationKey": "0001",
        "vendorKey": source.sibling("eam/vendors", n % 11),
        "orderNo": f"45{index:08d}",
        "orderDate": f"2025-{n % 12 + 1:02d}-{n % 28 + 1:02d}",
        "statusKey": f"{(n + revision) % 5 + 1:02d}",
        "title": f"Spares for {_MACHINES[n % 12].lower()}",
        "description": f"Revision {revision}" if revision else None,
        "dueAt": None,
        "approvedAt": None,
        "completedAt": None,
        "totalNetValue": net,
        "totalGrossValue": round(net * 1.19, 2),
        "currencyKey": ("EUR", "USD", "PLN")[n % 3],
        "lineItems": [{"position": 10, "quantity": n % 20 + 1, "netValue": net}],
    }


def _named(prefix: str, names: tuple[str, ...]) -> Callable[[Source, int, int], dict[str, Any]]:
    def body(source: Source, index: int, revision: int) -> dict[str, Any]:
        return {
            "key": source.key(index),
            "code": f"{prefix}-{index + 1:04d}",
            "name": f"{names[_mixed(source, index) % len(names)]} {index + 1}",
            "description": f"Revision {revision}" if revision else None,
        }

    return body


def _inventory(source: Source, index: int, revision: int) -> dict[str, Any]:
    n = _mixed(source, index)
    return {
        "key": source.key(index),
        "siteKey": source.sibling("eam/sites", n % 7),
        "materialKey": source.sibling("eam/materials", index),
        "quantity": (n + revision * 7) % 500,
        "unit": "PCE",
    }


BODIES: dict[str, Callable[[Source, int, int], dict[str, Any]]] = {
    "eam/work-orders": _work_order,
    "eam/assets": _asset,
    "eam/sites": _named("S", _SITES),
    "eam/locations": _named("L", _SITES),
    "eam/materials": _named("MAT", ("Seal kit", "Bearing", "V-belt", "Filter", "Valve")),
    "eam/vendors": _named("V", _MAKERS),
    "erp/purchase-orders": _purchase_order,
    "wms/inventories": _inventory,
}
"""Every entity a system may offer."""
