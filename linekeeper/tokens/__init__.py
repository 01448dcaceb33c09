"""A connection's tokens: kept encrypted, renewed one at a time."""

from linekeeper.tokens.renew import renew
from linekeeper.tokens.saved import MINT_MARGIN, Token, destroy_tokens, load_tokens, save_tokens

__all__ = ["MINT_MARGIN", "Token", "destroy_tokens", "load_tokens", "renew", "save_tokens"]
