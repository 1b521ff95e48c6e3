#!/usr/bin/python3
"""Print the bill of materials of a Debian package: SPDX 2.3 as JSON, read from the package alone.

Each file with its SHA-256, the licence of debian/copyright, the packages that it depends on, recommends and
suggests, and what was linked into its compiled modules. The same package gives the same bytes: the time is
that of its files, the changelog's.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

#: Fields of a package, and what they are in SPDX.
RELATIONS = {
    "Depends": "DEPENDS_ON",
    "Recommends": "OPTIONAL_DEPENDENCY_OF",
    "Suggests": "OPTIONAL_DEPENDENCY_OF",
}
THIS = "SPDXRef-Package"
UNKNOWN = "NOASSERTION"
#: Where SPDX documents without a home of their own have their names; nothing is there.
DOCUMENTS = "https://spdx.org/spdxdocs"
#: `name:arch (>= version)`, of which the first part is a package's name.
NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")


def main(argv: list[str]) -> int:
    """Print the document for the package that is named, or how to call this."""
    if len(argv) != 2:
        print(f"usage: {argv[0]} PACKAGE.deb", file=sys.stderr)
        return 2
    print(json.dumps(document(Path(argv[1])), indent=1))
    return 0


def document(deb: Path) -> dict[str, object]:
    """Return the SPDX document. Raise CalledProcessError if dpkg-deb does not read the package."""
    control = _control(deb)
    name, version = control["Package"], control["Version"]
    packed = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        members = sorted((member for member in tar if member.isreg()), key=lambda member: member.name)
        contents = {
            member.name: content.read() for member in members if (content := tar.extractfile(member))
        }
        made = datetime.fromtimestamp(max(member.mtime for member in members), UTC)
    copyright = contents[f"./usr/share/doc/{name}/copyright"].decode()
    (licence,) = set(re.findall(r"^License: (\S+)$", copyright, re.MULTILINE))
    (holder,) = set(re.findall(r"^Copyright: (.+)$", copyright, re.MULTILINE))
    terms = {"licenseConcluded": licence, "copyrightText": f"Copyright {holder}"}
    files = [
        {"SPDXID": _file_id(path), "fileName": path, "checksums": _checksums(content), **terms}
        | {"licenseInfoInFiles": [UNKNOWN]}
        for path, content in contents.items()
    ]
    others = _others(control) + _linked(contents)
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    supplier = f"Organization: {control['Maintainer'].partition(' <')[0]}"
    this = {
        "SPDXID": THIS,
        "name": name,
        "versionInfo": version,
        "packageFileName": deb.name,
        "supplier": supplier,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": True,
        "packageVerificationCode": {"packageVerificationCodeValue": _verification(contents.values())},
        "checksums": [{"algorithm": "SHA256", "checksumValue": digest}],
        "licenseDeclared": licence,
        "licenseInfoFromFiles": [UNKNOWN],
        "externalRefs": [_purl(name, f"@{version}?arch={control['Architecture']}")],
        **terms,
    }
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": deb.name,
        "documentNamespace": f"{DOCUMENTS}/{name}-{version}-{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "creationInfo": {
            "created": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": [supplier, "Tool: gandi-agent-sbom"],
        },
        "packages": [this, *(package for package, _ in others)],
        "files": files,
        "relationships": [
            _relationship("SPDXRef-DOCUMENT", "DESCRIBES", THIS),
            *(_relationship(THIS, "CONTAINS", _file_id(path)) for path in contents),
            *(relationship for _, relationship in others),
        ],
    }


def _control(deb: Path) -> dict[str, str]:
    """Return the fields of the package's control file."""
    said = subprocess.run(["dpkg-deb", "--field", deb], check=True, capture_output=True, text=True).stdout
    joined = re.sub(r"\n[ \t]+", " ", said)
    return dict(line.split(": ", 1) for line in joined.split("\n") if ": " in line)


def _others(control: dict[str, str]) -> list[tuple[dict[str, object], dict[str, str]]]:
    """Return the packages that the control file asks for, each with its relationship to this one."""
    found = []
    for field, relation in RELATIONS.items():
        clauses: dict[str, list[str]] = {}
        for clause in filter(None, control.get(field, "").split(", ")):
            for alternative in clause.split(" | "):
                clauses.setdefault(NAME.findall(alternative)[0], []).append(clause)
        for name, asked in clauses.items():
            identifier = f"SPDXRef-{field}-{name.replace('+', '-plus')}"
            package = {
                "SPDXID": identifier,
                "name": name,
                "downloadLocation": UNKNOWN,
                "filesAnalyzed": False,
                "licenseConcluded": UNKNOWN,
                "licenseDeclared": UNKNOWN,
                "copyrightText": UNKNOWN,
                "comment": f"{field}: {', '.join(asked)}",
                "externalRefs": [_purl(name, "")],
            }
            ends = (THIS, relation, identifier) if field == "Depends" else (identifier, relation, THIS)
            found.append((package, _relationship(*ends)))
    return found


def _linked(contents: dict[str, bytes]) -> list[tuple[dict[str, object], dict[str, str]]]:
    """Return what a compiled module was made of, by the list in CycloneDX's format that its makers added."""
    found = []
    for path, content in contents.items():
        if not path.endswith(".cyclonedx.json.gz"):
            continue
        listed = json.loads(gzip.decompress(content))
        whole = listed["metadata"]["component"]
        # Its list names the place where it was compiled.
        whole["purl"] = f"pkg:pypi/{whole['name']}@{whole['version']}"
        for one in (whole, *listed["components"]):
            (licence,) = (each["expression"] for each in one["licenses"])
            identifier = f"SPDXRef-Linked-{one['name']}-{one['version']}".replace("_", "-").replace(
                "+", "-plus-"
            )
            package = {
                "SPDXID": identifier,
                "name": one["name"],
                "versionInfo": one["version"],
                "downloadLocation": UNKNOWN,
                "filesAnalyzed": False,
                "licenseConcluded": UNKNOWN,
                "licenseDeclared": licence,
                "copyrightText": UNKNOWN,
                "externalRefs": [_purl_reference(one["purl"])],
            }
            found.append((package, _relationship(THIS, "CONTAINS", identifier)))
    return found


def _relationship(one: str, what: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": what, "relatedSpdxElement": other}


def _purl(name: str, rest: str) -> dict[str, str]:
    return _purl_reference(f"pkg:deb/debian/{name}{rest}")


def _purl_reference(locator: str) -> dict[str, str]:
    return {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator}


def _file_id(path: str) -> str:
    """Return an identifier: SPDX allows letters, digits, dots and hyphens only."""
    return f"SPDXRef-File-{hashlib.sha256(path.encode()).hexdigest()[:20]}"


def _checksums(content: bytes) -> list[dict[str, str]]:
    """SPDX 2.3 asks for SHA-1 of each file."""
    values = {"SHA1": _sha1(content), "SHA256": hashlib.sha256(content).hexdigest()}
    return [{"algorithm": name, "checksumValue": value} for name, value in values.items()]


def _verification(contents: Iterable[bytes]) -> str:
    """Return the package verification code of SPDX 2.3, 7.9: over the sorted SHA-1s of all files."""
    return _sha1("".join(sorted(map(_sha1, contents))).encode())


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
