"""DNS as the pod's own resolver would see it, spoken by ourselves.

glibc's lookup cannot be cancelled, answers one cause for four, and doubles every query. Here:
`message` is the wire format, `config` what `/etc/resolv.conf` and `/etc/hosts` say, `plan` which
names a target may stand for and when each is worth a question, `exchange` one question to the
servers, `denials` when a negative cache makes one useless, and `resolver` puts them together.
"""
