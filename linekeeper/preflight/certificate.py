"""The dates in an X.509 certificate, read from its DER (RFC 5280, 4.1).

Python's `ssl` tells them only for certificates it trusts; an expired one is just what we look for.
"""

from datetime import UTC, datetime

_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


def validity(der: bytes) -> tuple[datetime, datetime] | None:
    """Not before and not after, aware UTC; None if `der` isn't a certificate. Total."""
    try:
        certificate, _ = _element(der, _SEQUENCE)
        body, _ = _element(certificate, _SEQUENCE)
        if body[0] == _VERSION:
            _, body = _element(body)
        for _ in ("serial number", "signature algorithm", "issuer"):
            _, body = _element(body)
        dates, _ = _element(body, _SEQUENCE)
        kind = dates[0]
        first, rest = _element(dates)
        return _time(kind, first), _time(rest[0], _element(rest)[0])
    except (ValueError, IndexError):
        return None


def _element(data: bytes, tag: int | None = None) -> tuple[bytes, bytes]:
    """The content of the first element, and what follows it."""
    if tag is not None and data[0] != tag:
        raise ValueError("another element was expected")
    length, start = data[1], 2
    if length >= 0x80:
        start += length - 0x80
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise ValueError("cut off")
    return data[start : start + length], data[start + length :]


def _time(kind: int, value: bytes) -> datetime:
    text = value.decode("ascii")
    if kind == _UTC_TIME:
        century = "19" if int(text[:2]) >= 50 else "20"
        text = century + text
    elif kind != _GENERALIZED_TIME:
        raise ValueError("not a time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
