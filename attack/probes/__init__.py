"""The probes: what each takes is a Target, what it finds is in its Result. The numbers are those of the issue's items."""

from collections.abc import Callable

from report import Result
from service import Target

from . import bad_days, framing, load, slow, sql

Probe = Callable[[Target, Result], None]

PROBES: dict[str, tuple[str, Probe]] = {
    # one process serves those that follow each other and want the same
    "smuggling": ("1", framing.smuggling),
    "proxies": ("1", framing.proxies),
    "protocol-errors": ("7", framing.protocol_errors),
    "stalled-bodies": ("6", slow.stalled_bodies),
    "large-rows": ("4", load.large_rows),
    "json": ("5", load.json_bombs),
    "raw-sql": ("15, 16", sql.raw_sql),
    "values": ("16", sql.values),
    "privileges": ("10", bad_days.privileges),
    "secrets": ("17", sql.secrets),
    "endless": ("2", framing.endless),
    "slow-clients": ("3", slow.slow_clients),
    "unread": ("3, 4", slow.unread),
    "overload": ("8, 14", load.overload),
    "deadlocks": ("9", load.deadlocks),
    "stuck": ("10", load.stuck),
    "resets": ("11", bad_days.resets),
    "start": ("12", bad_days.start),
    "sigterm": ("13", bad_days.sigterm),
    "killed": ("8", bad_days.killed),
}
