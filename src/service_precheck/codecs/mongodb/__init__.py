"""MongoDB's wire protocol."""
