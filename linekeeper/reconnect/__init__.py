"""One case of a lost login: ask, remind, verify, backfill, close."""
