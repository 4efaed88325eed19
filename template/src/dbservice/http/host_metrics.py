"""Whether the servers of the database work, as a metric, where reads or writes have several."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily

from ..backends.interface import Backend


class HostMetrics:
    """Reads the state of the hosts when somebody asks for it."""

    def __init__(self, backend: Backend) -> None:
        uses = {"write": backend.hosts, "read": backend.read_hosts}
        self._hosts = {use: hosts for use, hosts in uses.items() if hosts.several}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        if not self._hosts:
            return
        family = GaugeMetricFamily(
            "db_host_up",
            "Whether the last connection to a server of the database could be opened, and used for this.",
            labels=["host", "use"],
        )
        for use, hosts in self._hosts.items():
            for address in hosts.in_order():
                family.add_metric([str(address), use], address not in hosts.failing)
        yield family
