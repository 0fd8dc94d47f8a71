"""Pools of workers, and the regions that this process serves (docs/adr/0022-regions.md).

A pool is named by its region and by what plans call it, `eu.shared`, so that routing is data: work
for a resource in `eu` waits in queues that only workers of `eu` consume.
"""

from collections.abc import Sequence

from django.conf import settings

from billing.plans import SHARED_POOL


def pool_name(region: str, name: str) -> str:
    return f"{region}.{name}"


def served_regions() -> Sequence[str]:
    """Those that this web process or worker serves: the deployment's, or the one it is for."""
    return [settings.PROCESS_REGION] if settings.PROCESS_REGION else settings.REGIONS


def shared_pools() -> list[str]:
    """The pools, one a region that this process serves, of the plans that name none."""
    return [pool_name(region, SHARED_POOL) for region in served_regions()]
