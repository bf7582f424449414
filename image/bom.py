"""The bill of materials: an SPDX 2.3 document of what is in the image and where it comes from."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

from image.packages import SUITE, Package

Json = dict[str, object]


def document(
    name: str, version: str, digest: str, when: str, packages: dict[str, list[Package]]
) -> Json:
    """The document for the image of that digest. `packages` are Debian's, by architecture."""
    image = _entry(f"{name}-image", version, "SPDXRef-image", digest.removeprefix("sha256:"))
    image["primaryPackagePurpose"] = "CONTAINER"
    image["externalRefs"] = _purl(f"pkg:oci/{name}@{quote(digest, safe='')}")
    ours = _entry(name, version, "SPDXRef-package")
    ours["licenseDeclared"] = "MIT"
    ours["externalRefs"] = _purl(f"pkg:pypi/{name}@{version}")
    entries = [image, ours]
    for architecture, listed in packages.items():
        for package in sorted(listed, key=lambda each: each.name):
            entry = _entry(
                package.name,
                package.version,
                f"SPDXRef-{architecture}-{re.sub(r'[^a-zA-Z0-9.-]', '-', package.name)}",
                hashlib.sha256(package.deb.read_bytes()).hexdigest(),
            )
            entry["supplier"] = f"Organization: Debian ({package.fields['Maintainer']})"
            entry["sourceInfo"] = (
                f"Debian {SUITE}, source {package.source} {package.source_version}; the checksum is"
                f" that of {package.deb.name}, of which the image holds a part"
            )
            entry["externalRefs"] = _purl(
                f"pkg:deb/debian/{quote(package.name)}@{quote(package.version, safe='')}"
                f"?arch={package.fields['Architecture']}&distro=debian-12"
            )
            entries.append(entry)
    describes = _relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image")
    contains = [
        _relation("SPDXRef-image", "CONTAINS", str(entry["SPDXID"])) for entry in entries[1:]
    ]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{name}-image-{version}",
        "documentNamespace": f"https://spdx.org/spdxdocs/{name}-image-{version}-{digest[7:]}",
        "creationInfo": {"created": when, "creators": ["Tool: image.build"]},
        "packages": entries,
        "relationships": [describes, *contains],
    }


def _entry(name: str, version: str, identifier: str, sha256: str = "") -> Json:
    entry: Json = {
        "SPDXID": identifier,
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    }
    if sha256:
        entry["checksums"] = [{"algorithm": "SHA256", "checksumValue": sha256}]
    return entry


def _purl(locator: str) -> list[Json]:
    return [
        {
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": locator,
        }
    ]


def _relation(subject: str, kind: str, target: str) -> Json:
    return {"spdxElementId": subject, "relationshipType": kind, "relatedSpdxElement": target}
