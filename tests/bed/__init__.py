"""The test bed: the real servers, networks and processes that every test uses.

| module        | offers                                                                  |
|---------------|-------------------------------------------------------------------------|
| `sockets`     | scripted TCP and unix servers                                            |
| `ports`       | free ports, loopback addresses                                           |
| `tls`         | an authority, its good and bad certificates, TLS for any scripted server |
| `names`       | `ScriptedDNS`: exact answers, exact query counts                         |
| `nameservers` | BIND, Knot, Unbound, dnsmasq, CoreDNS                                    |
| `pages`       | scripted HTTP, a proxy                                                   |
| `webservers`  | nginx, an ASGI server                                                    |
| `process`     | the gate as a child process: output, status, signals, /proc, a meter     |
| `limits`      | cgroups, PID 1                                                           |
| `daemon`      | a server program: log, pause, stop                                       |
| `world`       | a network namespace with its own addresses, faults and /etc files        |
| `fixtures`    | the pytest fixtures over all of these                                    |

Each is a context manager that leaves nothing behind. What a machine lacks is skipped with a reason.
"""
