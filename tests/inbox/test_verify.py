"""Genuine or not: the documented schemes, and whatever else somebody may send."""

import base64
import hashlib
import hmac

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from linekeeper.inbox.verify import ACCEPTED, Accepted, Rejected, Verifier

BODY = b'{"event":"assets.updated","body":["09000207611898"]}'
SECRET = "s3cret"
HEX = hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest().encode()
BASE64 = base64.b64encode(bytes.fromhex(HEX.decode()))

VECTOR_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR_BODY = b'{"test": 2432232314}'
VECTOR_AT = 1614265330
VECTOR = {
    b"webhook-id": b"msg_p5jXN8AQM9LWM0D4loKWxJek",
    b"webhook-timestamp": b"1614265330",
    b"webhook-signature": b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}


def makini(value: bytes, *, secrets: tuple[str, ...] = (SECRET,), body: bytes = BODY, **options):
    return Verifier("makini", secrets, **options).verify(
        {b"x-webhook-signature": value}, body, now=0
    )


def standard(headers: dict[bytes, bytes], *, now: float = VECTOR_AT, body: bytes = VECTOR_BODY):
    return Verifier("standard", [VECTOR_SECRET]).verify(headers, body, now=now)


@pytest.mark.parametrize(
    "value",
    [HEX, HEX.upper(), BASE64, b"sha256=" + HEX, b"SHA256=" + BASE64, BASE64.rstrip(b"=")],
)
def test_hex_and_base64_count_with_and_without_the_prefix(value: bytes) -> None:
    assert makini(value) == ACCEPTED


def test_any_of_several_secrets_counts_while_they_are_rotated() -> None:
    assert makini(HEX, secrets=("new", SECRET)) == ACCEPTED
    assert makini(HEX, secrets=("new", "newer")) == Rejected("bad_signature")


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (b"", "no_signature"),
        (b"v1,a,b", "malformed_signature"),
        (b"sha256=", "malformed_signature"),
        (b"z" * 64, "malformed_signature"),
        (HEX[:-2], "malformed_signature"),
        (b"\xff" * 44, "malformed_signature"),
        (b"0" * 64, "bad_signature"),
        (base64.b64encode(b"0" * 32), "bad_signature"),
    ],
)
def test_a_wrong_signature_is_refused_with_its_cause(value: bytes, cause: str) -> None:
    assert makini(value) == Rejected(cause)


@pytest.mark.parametrize("secrets", [(), ("",)])
def test_without_a_secret_nothing_is_genuine(secrets: tuple[str, ...]) -> None:
    empty = hmac.new(b"", BODY, hashlib.sha256).hexdigest().encode()
    assert makini(empty, secrets=secrets) == Rejected("no_secret")
    assert Verifier("standard", ["whsec_"]).verify(VECTOR, VECTOR_BODY, now=VECTOR_AT) == Rejected(
        "no_secret"
    )


def test_reserialised_json_counts_only_where_it_is_switched_on() -> None:
    spaced = b'{"event": "assets.updated",  "body": ["09000207611898"]}'
    assert makini(HEX, body=spaced) == Rejected("bad_signature")
    assert makini(HEX, body=spaced, reserialized=True) == ACCEPTED
    deep = b"[" * 100_000 + b"]" * 100_000
    assert makini(HEX, body=deep, reserialized=True) == Rejected("bad_signature")
    assert makini(HEX, body=b"\xff{", reserialized=True) == Rejected("bad_signature")


def test_the_standard_webhooks_vector_is_genuine() -> None:
    assert standard(VECTOR) == ACCEPTED
    assert standard({name.replace(b"webhook", b"svix"): VECTOR[name] for name in VECTOR}) == (
        ACCEPTED
    )


def test_one_good_signature_of_several_is_enough() -> None:
    good = VECTOR[b"webhook-signature"]
    several = b"v2,abc v1a,zzz v1,a,b " + good.replace(b"g0", b"g1") + b"  " + good
    assert standard({**VECTOR, b"webhook-signature": several}) == ACCEPTED


@pytest.mark.parametrize("now", [VECTOR_AT - 301, VECTOR_AT + 301, float("nan")])
def test_a_time_more_than_five_minutes_away_is_stale(now: float) -> None:
    assert standard(VECTOR, now=now) == Rejected("stale_timestamp")
    assert standard(VECTOR, now=VECTOR_AT + 299) == ACCEPTED


def test_a_time_is_called_stale_only_of_what_is_signed_with_a_secret_of_ours() -> None:
    old = {**VECTOR, b"webhook-id": b"msg_other"}
    assert standard(old, now=VECTOR_AT + 301) == Rejected("bad_signature")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({b"webhook-id": b""}, "no_id"),
        ({b"webhook-id": b"msg_other"}, "bad_signature"),
        ({b"webhook-timestamp": b"1614265331"}, "bad_signature"),
        ({b"webhook-timestamp": b""}, "bad_timestamp"),
        ({b"webhook-timestamp": b"1e9"}, "bad_timestamp"),
        ({b"webhook-timestamp": b"9" * 5000}, "bad_timestamp"),
        ({b"webhook-timestamp": "١٢٣".encode()}, "bad_timestamp"),
        ({b"webhook-signature": b""}, "no_signature"),
        ({b"webhook-signature": b"v1,a,b"}, "malformed_signature"),
        ({b"webhook-signature": b"v1,"}, "malformed_signature"),
        ({b"webhook-signature": b"   "}, "malformed_signature"),
    ],
)
def test_a_standard_delivery_that_is_not_whole_is_refused(
    change: dict[bytes, bytes], cause: str
) -> None:
    assert standard({**VECTOR, **change}) == Rejected(cause)


def test_the_secrets_are_not_shown() -> None:
    assert SECRET not in repr(Verifier("makini", [SECRET]))


values = st.one_of(
    st.binary(max_size=200),
    st.lists(
        st.sampled_from([b"v1,", b"v1", b",", b" ", b"=", b"sha256=", b"a", b"g0hM9SsE", b"\xff"]),
        max_size=30,
    ).map(b"".join),
)


@given(
    scheme=st.sampled_from(["makini", "standard"]),
    secrets=st.lists(st.text(max_size=20), max_size=3),
    headers=st.dictionaries(
        st.sampled_from([*VECTOR, b"x-webhook-signature", b"svix-id"]), values, max_size=5
    ),
    body=st.binary(max_size=100),
    now=st.floats(),
    reserialized=st.booleans(),
)
@example("standard", ["whsec_", "\ud800"], {**VECTOR}, b"", 1e300, True)
def test_any_bytes_give_a_verdict(scheme, secrets, headers, body, now, reserialized) -> None:
    verdict = Verifier(scheme, secrets, reserialized=reserialized).verify(headers, body, now=now)
    assert isinstance(verdict, Accepted | Rejected)


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=4))
def test_whatever_is_signed_is_genuine_and_any_change_of_it_is_not(payload: dict) -> None:
    try:
        body = orjson.dumps(payload)
    except TypeError:  # a number or a text that JSON of theirs doesn't have
        return
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest().encode()
    assert makini(signature, body=body) == ACCEPTED
    assert makini(signature, body=body + b" ") == Rejected("bad_signature")
