"""What a plain form sends (`application/x-www-form-urlencoded`)."""

from urllib.parse import parse_qs


def fields(body: bytes) -> dict[str, str]:
    """The first value of each field; empty for a body that is no form."""
    try:
        parsed = parse_qs(body.decode("utf-8"), max_num_fields=20)
    except ValueError:
        return {}
    return {name: values[0] for name, values in parsed.items()}
