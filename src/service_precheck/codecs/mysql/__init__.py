"""MySQL's client/server protocol."""
