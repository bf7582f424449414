"""Waits until the services a workload depends on are usable, and says which one blocks and why."""
