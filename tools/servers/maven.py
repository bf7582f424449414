"""Servers from Maven's repository: their jars, below `cache()`, each once for each version."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

from tools.servers import cache

# A server, its version, and the artifacts whose jars it runs from.
JARS = (
    (
        "kafka",
        "4.4.0",
        # Without a binding of slf4j there is no log at all.
        ("org.apache.kafka:kafka_2.13:4.4.0", "org.slf4j:slf4j-simple:1.7.36"),
    ),
    (
        "hadoop",
        "3.4.1",
        (
            "org.apache.hadoop:hadoop-common:3.4.1",
            "org.apache.hadoop:hadoop-hdfs:3.4.1",
            "org.apache.hadoop:hadoop-hdfs-client:3.4.1",
            # As old as the jackson-databind that Hadoop brings: it would bring an older one.
            "com.fasterxml.jackson.core:jackson-core:2.12.7",
        ),
    ),
    # Two lines of Elasticsearch that Java 17 runs. Its security is not in the repository.
    (
        "elasticsearch7",
        "7.17.29",
        (
            "org.elasticsearch:elasticsearch:7.17.29",
            "org.elasticsearch.plugin:transport-netty4-client:7.17.29",
        ),
    ),
    (
        "elasticsearch8",
        "8.19.5",
        (
            "org.elasticsearch:elasticsearch:8.19.5",
            "org.elasticsearch.plugin:transport-netty4:8.19.5",
        ),
    ),
    (
        "opensearch",
        # The newest one that its Security plugin is to be had for.
        "2.19.4",
        (
            "org.opensearch:opensearch:2.19.4",
            "org.opensearch.plugin:transport-netty4-client:2.19.4",
            # As old as the log4j-api that OpenSearch brings: another one fails.
            "org.apache.logging.log4j:log4j-core:2.21.0",
        ),
    ),
    (
        "zookeeper",
        "3.9.3",
        (
            "org.apache.zookeeper:zookeeper:3.9.3",
            # Two that it leaves to whoever runs a server.
            "io.dropwizard.metrics:metrics-core:4.1.12.1",
            "org.xerial.snappy:snappy-java:1.1.10.5",
            "org.slf4j:slf4j-simple:1.7.30",
        ),
    ),
)
# A server, its version, and the archive that holds it.
ARCHIVES = (
    ("elasticsearch", "5.6.16", "org.elasticsearch.distribution.zip:elasticsearch:5.6.16:zip"),
    (
        "opensearch-security",
        "2.19.4.0",
        "org.opensearch.plugin:opensearch-security:2.19.4.0:zip",
    ),
)

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>wanted</groupId><artifactId>wanted</artifactId>
<version>1</version><dependencies>{}</dependencies></project>
"""
_DEPENDENCY = """<dependency><groupId>{}</groupId><artifactId>{}</artifactId>
<version>{}</version></dependency>"""


def folder(name: str) -> Path:
    """Where a server's files lie: `libs/*.jar`, or what its archive holds."""
    return cache() / f"{name}-{version(name)}"


def version(name: str) -> str:
    """Which version of a server is brought."""
    return {server: version for server, version, _ in (*JARS, *ARCHIVES)}[name]


def bring(*wanted: str) -> None:
    """Fetch what is missing of these servers. Raises CalledProcessError."""
    mvn = shutil.which("mvn")
    for name, version, artifacts in JARS:
        if name in wanted and not folder(name).exists():
            print(f"fetching {name} {version} (some seconds, once)", flush=True)
            _jars(mvn, name, artifacts)
    for name, version, artifact in ARCHIVES:
        if name in wanted and not folder(name).exists():
            print(f"fetching {name} {version} (some seconds, once)", flush=True)
            _archive(mvn, name, artifact)


def _jars(mvn: str | None, name: str, artifacts: tuple[str, ...]) -> None:
    if mvn is None:
        print(f"no Maven, so no {name}")
        return
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache()) as work:
        wanted = (_DEPENDENCY.format(*artifact.split(":")) for artifact in artifacts)
        Path(work, "pom.xml").write_text(_POM.format("".join(wanted)))
        words = [
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            "-DoutputDirectory=made/libs",
        ]
        subprocess.run([mvn, "-q", "-B", *words], cwd=work, stdin=subprocess.DEVNULL, check=True)
        Path(work, "made").rename(folder(name))


def _archive(mvn: str | None, name: str, artifact: str) -> None:
    if mvn is None:
        print(f"no Maven, so no {name}")
        return
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache()) as work:
        words = ["dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={work}"]
        subprocess.run([mvn, "-q", "-B", *words], cwd=work, stdin=subprocess.DEVNULL, check=True)
        (packed,) = Path(work).glob("*.zip")
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(Path(work, "made"))
        inside = list(Path(work, "made").iterdir())
        # Some hold a folder with all of it, others all of it.
        (inside[0] if len(inside) == 1 else Path(work, "made")).rename(folder(name))
