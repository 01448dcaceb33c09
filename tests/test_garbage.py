"""What a process of ours imports is never looked at for garbage; what it makes later is."""

import subprocess
import sys

PROGRAM = """
import gc, weakref
from linekeeper.garbage import collect_seldom, importing

class Node:
    pass

def ring():
    node = Node()
    node.itself = node
    return weakref.ref(node)

collect_seldom()
with importing():
    import decimal
    assert not gc.isenabled()
    imported = ring()
assert gc.isenabled()
made_later = ring()
gc.collect()
assert imported() is not None
assert made_later() is None
before = gc.get_stats()[0]["collections"]
kept = [[] for _ in range(40_000)]
assert gc.get_stats()[0]["collections"] == before
kept += [[] for _ in range(40_000)]
assert gc.get_stats()[0]["collections"] > before

gc.disable()
with importing():
    pass
assert not gc.isenabled()  # as it was
gc.enable()

try:
    with importing():
        import no_such_module_at_all
except ImportError:
    assert gc.isenabled()
print("as promised")
"""


def test_what_is_imported_is_never_looked_at_and_the_rest_is_seldom() -> None:
    # A process of its own: what it freezes stays so.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "as promised\n"), done.stderr
