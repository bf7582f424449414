"""The probes: one module a scheme, each a conversation over a stream, none knowing another."""
