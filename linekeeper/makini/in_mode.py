"""One client for an app and for those of its connections that are in another mode."""

from copy import copy

from linekeeper.config import AppConfig
from linekeeper.makini.client import MakiniClient


def client_in_mode(client: MakiniClient, app: AppConfig) -> MakiniClient:
    """`client` for `app`, which is called alike: what it refuses goes by the mode of `app`.

    They share everything else; the one it came from is the one to close.
    """
    if app.manages == client.app.manages:
        return client
    same = copy(client)
    same.app = app
    return same
