"""Whether the servers of the database work, as a metric, where reads or writes have several."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily

from ..backends.interface import Backend


def host_metrics(backend: Backend) -> Iterator[GaugeMetricFamily]:
    """The family; none where there is one server."""
    family = GaugeMetricFamily(
        "db_host_up",
        "Whether the last connection to a server of the database could be opened, and used for this.",
        labels=["host", "use"],
    )
    for use, hosts in (("write", backend.hosts), ("read", backend.read_hosts)):
        for address in hosts.in_order() if hosts.several else ():
            family.add_metric([str(address), use], address not in hosts.failing)
    if family.samples:
        yield family
