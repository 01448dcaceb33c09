"""A receiver for what Linekeeper hands on: verify, remember, answer, work later.

Copy it; it needs nothing but Python. Try it with

    export FORWARD_SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
    python docs/samples/webhook_receiver.py 9000 received.db

and set the same secret and `http://127.0.0.1:9000/hooks` in Linekeeper's block (or
LINEKEEPER_FORWARD_URL and LINEKEEPER_FORWARD_SECRET).
"""

import base64
import hmac
import os
import sqlite3
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_SECONDS = 300
MAX_BODY = 4 * 1024 * 1024


def is_genuine(headers, body: bytes, secret: str, now: float) -> bool:
    """Standard Webhooks (standardwebhooks.com): any bytes give True or False."""
    identity, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not stamp.isascii() or not stamp.isdigit() or abs(now - int(stamp)) > TOLERANCE_SECONDS:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret[:6] == "whsec_" else secret
    key = key if isinstance(key, bytes) else key.encode()
    signed = f"{identity}.{stamp}.".encode("latin-1", "replace") + body
    good = b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256"))
    given = headers.get("webhook-signature", "").encode("latin-1", "replace").split()
    return any(hmac.compare_digest(good, one) for one in given)


def store(file: str, identity: str, body: bytes) -> bool:
    """Durable when this returns; False for an id that was here before (a repeat is normal)."""
    with sqlite3.connect(file, timeout=10) as database:
        cursor = database.execute(
            "INSERT INTO received (id, body, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (identity, body, time.time()),
        )
        is_new = cursor.rowcount == 1
    database.close()
    return is_new


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if not length.isdigit() or int(length[:12]) > MAX_BODY:
            self.close_connection = True
            self.answer(413)
            return
        body = self.rfile.read(int(length))
        if not is_genuine(self.headers, body, os.environ["FORWARD_SECRET"], time.time()):
            self.answer(401)
            return
        # Before the answer: store. After it, elsewhere: work through `received` in order of rowid.
        store(self.server.file, self.headers["webhook-id"], body)
        self.answer(200)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


if __name__ == "__main__":
    port, file = int(sys.argv[1]), sys.argv[2]
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE IF NOT EXISTS received (id TEXT PRIMARY KEY, body, at)")
    database.close()
    server = ThreadingHTTPServer(("127.0.0.1", port), Receiver)
    server.file = file
    print(f"listening on http://127.0.0.1:{port}/hooks", flush=True)
    server.serve_forever()
