"""The image of HDFS: Hadoop's jars from Maven's repository, on top of the image of services and its JRE.

It stands in for `apache/hadoop`. The scripts of Hadoop's distribution are not in that repository, so
`hdfs` is one of our own, which takes the words and the variables that the examples give to Hadoop's.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

from tools.cluster import images, services
from tools.servers import maven

ROOT = "opt/hadoop"
# Compiled quickly rather than well: these daemons live for a minute.
HDFS = f"""#!/bin/sh
# hdfs [--config FOLDER] COMMAND [ARGUMENT...]
set -eu
if [ "$1" = --config ]; then
    HADOOP_CONF_DIR=$2
    shift 2
fi
case $1 in
    namenode) class=hdfs.server.namenode.NameNode ;;
    datanode) class=hdfs.server.datanode.DataNode ;;
    journalnode) class=hdfs.qjournal.server.JournalNode ;;
    zkfc) class=hdfs.tools.DFSZKFailoverController ;;
    haadmin) class=hdfs.tools.DFSHAAdmin ;;
    dfs) class=fs.FsShell ;;
    *) echo "no such command here: $1" >&2 && exit 2 ;;
esac
shift
exec java -XX:TieredStopAtLevel=1 -Xmx"${{HADOOP_HEAPSIZE_MAX:-128m}}" ${{HADOOP_OPTS:-}} \\
    -cp "$HADOOP_CONF_DIR:/{ROOT}:/{ROOT}/libs/*" "org.apache.hadoop.$class" "$@"
"""
# Hadoop asks the system who it is; the public image knows this user by the same number.
USERS = "root:x:0:0::/root:/bin/sh\nhadoop:x:1000:1000::/opt/hadoop:/bin/bash\n"
# The daemons look for their pages, and can do without.
PAGES = ("hdfs", "datanode", "journal")


def archive() -> Path:
    """Where the image lies, or will: its name tells what it is made of."""
    jars = [each for each in maven.JARS if each[0] == "hadoop"]
    made_of = repr((jars, services.archive().name, HDFS, USERS, PAGES))
    return images.FOLDER / f"hadoop-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.tar"


def bring() -> None:
    """Make it if it is missing and can be made (half a minute)."""
    if archive().exists() or not services.archive().exists() or not maven.folder("hadoop").exists():
        return
    print("making the cluster's image of Hadoop (half a minute, once)", flush=True)
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(maven.folder("hadoop") / "libs", f"{ROOT}/libs")
        for name in PAGES:
            page = tarfile.TarInfo(f"{ROOT}/webapps/{name}")
            page.type, page.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(page)
        for path, text, mode in ((f"{ROOT}/bin/hdfs", HDFS, 0o755), ("etc/passwd", USERS, 0o644)):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text), mode
            tar.addfile(entry, io.BytesIO(text.encode()))
    for older in images.FOLDER.glob("hadoop-*.tar"):
        older.unlink()
    images.write(
        *(archive(), "hadoop:3.4.1", layer.getvalue(), ["/bin/sh"]),
        search=f"/{ROOT}/bin:{services.PATH}",
        base=services.archive(),
    )
