"""The benchmark: rivals measured in pairs, in one run, on one machine; `make bench` runs it."""
