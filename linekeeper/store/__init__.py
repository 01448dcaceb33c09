"""Where the truth lives: tables, engine, migrations, leases, outbox, the copy of the blocks."""

from linekeeper.clock import new_id
from linekeeper.store.cipher import Cipher, KeyProblem
from linekeeper.store.engine import Store
from linekeeper.store.errors import StoreError
from linekeeper.store.types import is_id

__all__ = ["Cipher", "KeyProblem", "Store", "StoreError", "is_id", "new_id"]
