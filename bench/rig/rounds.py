"""Rounds that take turns, and the spread of what they saw."""

import statistics


def turns(items, rounds):
    """Each round has every item, and each begins with another one."""
    items = list(items)
    for number in range(rounds):
        at = number % len(items)
        yield from items[at:] + items[:at]


def spread(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def ratios(ours, theirs):
    """Round by round: what disturbs the machine for a while disturbs both."""
    return spread([one / other for one, other in zip(ours, theirs, strict=True)])
