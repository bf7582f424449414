"""ZooKeeper's words and sessions."""
