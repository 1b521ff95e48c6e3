"""Templates: names that are replaced, and everything else, which is refused."""

from __future__ import annotations

import pytest

from agent.reader.formats import template

NAMES = template.names(
    {
        "instance-id": "i-1",
        "local-hostname": "web1.example.org",
        "availability_zone": "par1",
        "meta": {"role": "db", "deep": {"n": 3}},
        "public-keys": ["no text"],
        "odd": "\ud800",
    }
)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{{ v1.local_hostname }}", "web1"),
        ("{{local_hostname}}", "web1"),
        ("{{ ds.meta_data.local_hostname }}", "web1.example.org"),
        ("{{ v1.instance_id }}{{ instance_id }}", "i-1i-1"),
        ("{{\tv1.availability_zone\n}}", "par1"),
        ("{{ ds.meta_data.meta.role }} {{ ds.meta_data.meta.deep.n }}", "db 3"),
        ("${name} }} %} #} { { x", "${name} }} %} #} { { x"),
        ("caf\udce9", "caf\udce9"),
    ],
)
def test_a_name(written: str, expected: str) -> None:
    found = template.rendered(written.encode("utf-8", "surrogateescape"), NAMES)
    assert found == expected.encode("utf-8", "surrogateescape")


def test_a_value_is_not_read_again() -> None:
    assert template.rendered(b"{{ a }}", {"a": "{{ b }}", "b": "no"}) == b"{{ b }}"


@pytest.mark.parametrize(
    "written",
    [
        "{{ v1.local_hostname | upper }}",
        "{{ 1 + 1 }}",
        "{{ ds['meta_data'] }}",
        "{{ ds.meta_data.public_keys[0] }}",
        "{{ 'text' }}",
        "{{- v1.instance_id -}}",
        "{{ v1.instance_id",
        "{{ }}",
        "{% if v1.instance_id %}x{% endif %}",
        "echo ${#name}",
    ],
)
def test_an_expression(written: str) -> None:
    with pytest.raises(ValueError, match=r"template \(line 2 of it\); only names are replaced"):
        template.rendered(b"\n" + written.encode(), NAMES)


@pytest.mark.parametrize(
    "name", ["v1.region", "ds.meta_data.public_keys", "ds.meta_data.odd", "ds.meta_data", "merge"]
)
def test_an_unknown_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"no metadata of the name {name}; only"):
        template.rendered(f"{{{{ {name} }}}}".encode(), NAMES)


def test_the_result_is_bounded() -> None:
    with pytest.raises(ValueError, match="more than"):
        template.rendered(b"{{ a }}" * 1000, {"a": "x" * 8192})
