"""One small module a channel: each only sends."""
