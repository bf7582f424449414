"""What each cause means and what to do about it, for `precheck causes` and the documentation.

Read by people who were woken up: what it is first, then what to look at, the likeliest first. The gate
never loads this; a test holds the table to `model.CAUSES`.
"""

from __future__ import annotations

from typing import NamedTuple

from .model import INDEFINITE

WITHOUT_KNOWLEDGE = (
    "Nothing was learnt about the dependency itself, so a `not(...)` around it stays shut."
)


class Advice(NamedTuple):
    """What a cause means, and what to do about it; each a few plain sentences."""

    meaning: str
    remedy: str


def text(name: str) -> str:
    """The meaning of a cause and what to do, as one page of plain text, wrapped for a terminal."""
    from textwrap import fill

    advice = CAUSES[name]
    meaning = f"{advice.meaning} {WITHOUT_KNOWLEDGE}" if name in INDEFINITE else advice.meaning
    paragraphs = [name, fill(meaning, 78), fill(f"What to do: {advice.remedy}", 78)]
    # Marks of code are for the documentation.
    return "\n\n".join(paragraphs).replace("`", "") + "\n"


CAUSES = {
    "name-not-found": Advice(
        "The resolver was asked and says that there is no such name (NXDOMAIN).",
        "See whether what carries the name was created: `kubectl get service -n NAMESPACE`. The name "
        "of a single pod (`mysql-0.mysql.NAMESPACE`) appears only when that pod is ready, unless its "
        "Service has `publishNotReadyAddresses`, and never if the StatefulSet's `serviceName` is not "
        "the headless Service. From another namespace the name needs its namespace: `mysql.shop`. "
        "`precheck explain NAME` lists the names that are tried, in order.",
    ),
    "no-addresses": Advice(
        "The name exists, but has no address, or no record of the type that was asked for.",
        "Behind a headless Service this means that none of its pods is ready: `kubectl get "
        "endpointslices -n NAMESPACE`, then the pods' own events and logs. A Service whose selector "
        "matches no pod looks the same. An alias (CNAME) may point to a name without addresses.",
    ),
    "resolver-failure": Advice(
        "A DNS server answered that it could not find out (SERVFAIL, REFUSED or the like). Whether the "
        "name exists is not known.",
        "Look at the DNS server, not at the dependency: CoreDNS's log (`kubectl logs -n kube-system -l "
        "k8s-app=kube-dns`), then the servers it forwards to. If only one name fails, its zone may be "
        "broken (DNSSEC, a dead delegation).",
    ),
    "resolver-timeout": Advice(
        "No DNS server answered in time. Whether the name exists is not known.",
        "Look whether the servers in the pod's `/etc/resolv.conf` are alive and can be reached: a "
        "NetworkPolicy that forbids port 53 (UDP and TCP), CoreDNS without a running pod, a node whose "
        "network is not up yet. `precheck explain NAME` prints the servers that are asked.",
    ),
    "wildcard": Advice(
        "The name is answered only by a wildcard in a domain of the search list: any other name "
        "would have got the same address, so this does not show that the dependency is there.",
        "Write the full name with a final dot, so that the search list is left out. If the wildcard "
        "is what you want, add `#wildcard=ok`.",
    ),
    "refused": Advice(
        "The address can be reached, and nothing listens on the port.",
        "Most often the service is still starting: its log tells. Else compare the port with the one "
        "it listens on (`targetPort` of the Service; a server that binds only 127.0.0.1 refuses all "
        "others). A Service without ready endpoints is refused as well, by the node itself.",
    ),
    "unreachable": Advice(
        "The network said that there is no way to the address.",
        "See whether the address is the one you expect and still in use. A firewall or a "
        "NetworkPolicy that rejects, a missing route, a node that is gone and an IPv6 address on a "
        "network without IPv6 all look like this.",
    ),
    "connect-timeout": Advice(
        "Nobody answered the attempt to connect: neither yes nor no.",
        "Packets are dropped on the way, mostly by a firewall or a NetworkPolicy (a security group in "
        "a cloud), or the address belongs to a machine that is gone. Try the same from another pod. "
        "If the network is merely slow, give each attempt longer: `#attempt-timeout=10s`.",
    ),
    "closed-early": Advice(
        "The connection was accepted, then closed or reset before anything useful came.",
        "Typically a proxy, a load balancer or a sidecar answers and has nothing behind it yet: look "
        "at what it forwards to. A server at its limit of connections, one that restarts, and one "
        "that expects TLS on this port behave so too.",
    ),
    "no-reply": Advice(
        "The connection stands, and the answer did not come, or not to its end, within the time of an "
        "attempt.",
        "The service accepts but does not work: it starts, is overloaded, or hangs (its log, its cpu "
        "limit, a garbage collector). It may also expect another protocol, TLS for example. If the "
        "answer is merely slow, give each attempt longer: `#attempt-timeout=15s`.",
    ),
    "protocol": Advice(
        "What answered does not speak the protocol that was asked for.",
        "Compare the port and the scheme: another service may listen there, HTTPS may be served where "
        "HTTP was asked for or the reverse, or a proxy may ask for its own protocol first.",
    ),
    "tls-expired": Advice(
        "The server's certificate is no longer valid, not valid yet, or expires sooner than "
        "`min-days` allows.",
        "Have the certificate renewed, and the server read the new one: many do so only at a restart "
        "or a reload. See also whether this machine's clock is right.",
    ),
    "tls-name": Advice(
        "The certificate is good, but for another name than the one that was asked for. Or the server "
        "says itself that it knows no such name.",
        "See which names it has: `openssl s_client -connect HOST:PORT </dev/null | openssl x509 "
        "-noout -ext subjectAltName`. Use one of them, or have the name added. If the connection goes to an address on purpose, name the expected server: "
        "`#server-name=db.example.org`.",
    ),
    "tls-untrusted": Advice(
        "The certificate was issued by nobody that is trusted here.",
        "For an authority of your own give its certificate: `#ca=/etc/ssl/ours.pem`, mounted from a "
        "ConfigMap or a Secret. If the authority is a public one, the server most likely leaves out "
        "the intermediate certificate. `#insecure` accepts anything and proves little.",
    ),
    "tls-client-cert": Advice(
        "The server asks for a client's certificate, and got none or one that it does not accept.",
        "Give one: `#cert=/tls/tls.crt#key=/tls/tls.key`. If you did, the server trusts another "
        "authority, or the certificate has expired: the server's log says which.",
    ),
    "tls-plaintext": Advice(
        "The port answers, but not in TLS.",
        "Ask without TLS (`tcp://`, `http://`), or use the port that has it. Some servers switch to "
        "TLS only later in the conversation (STARTTLS). A server that has not loaded its certificate "
        "yet may speak plainly too.",
    ),
    "unexpected-status": Advice(
        "The page answers, with another HTTP status than expected (any of 200 to 299 by default).",
        "404: compare the path. 500: the service's log. 502 and 504 come from a proxy in front, and "
        "mean that the service behind it does not answer. If the status is right for you, expect it: `#status=204`, "
        "`#status=200-399`.",
    ),
    "unexpected-body": Advice(
        "What was read does not hold what was expected (`contains`, `json` or `expect`).",
        "The sentence quotes the beginning of what came. Compare it with what you expect, case and "
        "spaces included. Only the first 64 KiB of a page are looked at.",
    ),
    "redirect": Advice(
        "The server sends the question elsewhere, to where it is not followed: another host, from "
        "https to http, in a circle, or too often.",
        "Ask the place that it points to, if that is the service you depend on. A login page instead "
        "of a health page means that the path needs no login to be found: use another path. "
        "Credentials are never sent to another origin.",
    ),
    "starting": Advice(
        "The service says itself that it is starting: it loads data or recovers.",
        "Wait. If it takes far longer than usual, its log tells how far it is; after a crash, recovery "
        "of a database can take hours.",
    ),
    "read-only": Advice(
        "The service answers but takes no writes.",
        "Either a replica was asked (ask the primary), no primary was chosen yet, or the service "
        "protects itself: a full disk, a switch-over under way.",
    ),
    "replica-lag": Advice(
        "The replica is further behind its primary than was asked for.",
        "Wait while it catches up. If it falls back further, look at its replication errors, its disk "
        "and the network between the two.",
    ),
    "no-leader": Advice(
        "The members are up, and have no leader.",
        "An election takes seconds. If it lasts, the members cannot see each other (names, "
        "NetworkPolicy, ports between them), or more than half of them are missing.",
    ),
    "no-quorum": Advice(
        "Too few members take part to decide anything.",
        "Bring up more than half of the members. Look at those that are missing, and at whether the "
        "members can reach each other by the names in their configuration.",
    ),
    "overloaded": Advice(
        "The service turns the question away because it has too much to do: its connections, its "
        "queue or its rate (HTTP status 429) are used up.",
        "Wait: where the answer says how long, that is respected. If it lasts, look at its limit of "
        "connections and at who uses them up.",
    ),
    "alarm": Advice(
        "The service works, and has raised an alarm of its own, mostly for disk or memory.",
        "Make room: writers are often blocked until the alarm is lifted. The sentence names the alarm.",
    ),
    "auth-required": Advice(
        "The service answers, and wants a login before it says more.",
        "Give one: a user in the target and `#password-file=/run/secrets/db`, or `#token-file=`. If it "
        "is enough that the service answers, ask less of it, for example only its port.",
    ),
    "auth-refused": Advice(
        "The service is up, and refuses the login that was sent, or wants a password where none was.",
        "Compare user and password with what the service has: a Secret that was changed on one side "
        "only is the usual reason; a final newline in the Secret is another. The user may not have "
        "been created yet. It is asked ever more rarely (1 s to 30 s), since accounts get locked, and "
        "at once when the file with the password changes.",
    ),
    "no-such-database": Advice(
        "The service is up and took the login; the database that was named does not exist.",
        "Wait for the job that creates it, or compare its name, upper and lower case included.",
    ),
    "missing-object": Advice(
        "Something that was named is not there: a file, a socket, a record, a topic, a table, an "
        "object in the cluster.",
        "See whether what makes it has run, and compare the name. For a file in a pod: the volume must "
        "be mounted in this container too.",
    ),
    "not-ready": Advice(
        "It was asked and says that it is not ready: a page by status 503, a command by its exit "
        "status.",
        "Often it is just starting, or one of its own dependencies is missing. The sentence has its own "
        "words, its log the rest. For `not(...)` this means that what "
        "should be gone is still there.",
    ),
    "failed": Advice(
        "It ended and will not come: a job that failed, a setting that can never hold.",
        "Look at its log, mend it, and run it again. Waiting does not help, so the gate ends; "
        "`--keep-waiting` waits even so, for those who mend it meanwhile.",
    ),
    "forbidden": Advice(
        "Who asks is known, and may not ask this.",
        "Grant the right that the sentence names; it is asked again, since rights may arrive later. "
        "If no right should be needed, ask for something public, a health page for example.",
    ),
    "too-few": Advice(
        "Some of what was asked for is there, and not enough: addresses for `min`, members of a group.",
        "Look at those that are missing; for a group the sentence says why each of them does not hold. "
        "Behind a headless Service each ready pod counts as one address.",
    ),
    "lost": Advice(
        "It held, and no longer did when everything was asked once more before opening.",
        "Something restarts, or fails now and then: look at its restarts and its log. It is asked "
        "again, and the gate opens only when everything holds at the same time. `#successes=3` asks "
        "for three good answers in a row.",
    ),
    "unsupported": Advice(
        "The service asks for something that is not spoken here: a login method or a version.",
        "The sentence names it and what to use instead. Often a simpler question proves enough, or "
        "`exec://` with the service's own client.",
    ),
    "local": Advice(
        "The obstacle is here and not there: no descriptors, no threads or no memory left, a file "
        "that may not be read, no such address family.",
        "Look at the limits of this container (pids, memory, open files), at the user it runs as, and "
        "at the files it was given. With too few threads targets take turns: slower, but right.",
    ),
}
