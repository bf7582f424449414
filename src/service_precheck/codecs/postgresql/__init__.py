"""PostgreSQL's frontend/backend protocol."""
