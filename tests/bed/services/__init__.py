"""Real servers of the deep probes: one module a service, each server a context manager.

They run as ordinary processes on loopback, on ports of their own, with their data in a temporary
folder; `tools.servers` brings the programs.
"""
