"""Periodic jobs: spread over machines, constant on one, and moved only from the times that Debian ships."""

from __future__ import annotations

import re

import pytest

from agent.config.model import Identity
from agent.steps import cron
from tests.unit.steps.conftest import Machine

CRONTAB = """\
# /etc/crontab: system-wide crontab
SHELL=/bin/sh
#17 *	* * *	root	run-parts /etc/cron.hourly

17 *	* * *	root	cd / && run-parts --report /etc/cron.hourly
25 6	* * *	root	test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }
47 6	* * 7	root	test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.weekly; }
52 6	1 * *	root	test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.monthly; }
5 5	* * *	backup	/usr/local/bin/backup
"""


def times(machine: Machine) -> list[str]:
    return [
        " ".join(line.split()[:5]) for line in re.findall(r"^\d.*$", machine.text(cron.FILE), re.MULTILINE)
    ]


def test_spread_once_and_then_left(machine: Machine) -> None:
    path = machine.put(cron.FILE, CRONTAB)
    path.chmod(0o640)
    found = machine.run(cron.apply)
    assert [one.partition(":")[0] for one in found.values()] == ["changed"] * 4
    now = times(machine)
    assert now[4] == "5 5 * * *"
    assert [re.sub(r"^\d+ (\d+|\*)", "", time) for time in now[:4]] == [
        " * * *",
        " * * *",
        " * * 7",
        " 1 * *",
    ]
    assert now[0].split()[1] == "*"
    assert machine.text(cron.FILE).splitlines()[:4] == CRONTAB.splitlines()[:4]
    assert [line.split("root")[1] for line in machine.text(cron.FILE).splitlines()[4:8]] == [
        line.split("root")[1] for line in CRONTAB.splitlines()[4:8]
    ]
    assert re.search(r"^\d+ \d\t\* \* 7\troot\t", machine.text(cron.FILE), re.MULTILINE), "in its columns"
    assert path.stat().st_mode & 0o777 == 0o640
    before = machine.stamps()
    assert {one.partition(":")[0] for one in machine.run(cron.apply).values()} == {"unchanged"}
    assert machine.stamps() == before


def test_a_job_that_somebody_moved_stays(machine: Machine) -> None:
    machine.put(cron.FILE, CRONTAB.replace("25 6", "30 3"))
    assert machine.run(cron.apply)["cron:daily"] == "kept: changed by admin"
    assert times(machine)[1] == "30 3 * * *"


def test_a_job_put_back_to_its_shipped_time_stays_there(machine: Machine) -> None:
    machine.put(cron.FILE, CRONTAB)
    machine.run(cron.apply)
    machine.put(cron.FILE, CRONTAB)
    assert set(machine.run(cron.apply).values()) == {"kept: changed by admin"}
    assert machine.text(cron.FILE) == CRONTAB


def test_a_copy_gets_times_of_its_own(machine: Machine) -> None:
    machine.put(cron.FILE, CRONTAB)
    machine.run(cron.apply)
    before = times(machine)
    ctx = machine.context()
    ctx.state.set_instance(Identity("gandi", "another"))
    list(cron.apply(ctx))
    assert times(machine) != before


def test_without_a_table_there_is_nothing_to_do(machine: Machine) -> None:
    assert machine.run(cron.apply) == {}


@pytest.mark.parametrize("job", cron.SHIPPED)
def test_a_fleet_is_spread(job: str) -> None:
    found = {cron.spread_times(job, f"gandi {number}") for number in range(600)}
    assert len(found) > (50 if job == "hourly" else 250)
    hours = {time[1] for time in found}
    assert hours == ({"*"} if job == "hourly" else {str(hour) for hour in cron.HOURS})
