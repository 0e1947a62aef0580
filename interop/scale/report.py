"""The checks of a run, and the table of its stages."""

import re
import time
from collections import Counter
from dataclasses import dataclass

from fleet import ROOT

PAGE = ROOT / "docs/scaling.md"
BEGIN, END = "<!-- interop/scale/run --docs writes from here -->", "<!-- to here -->"

# The gateway's delays between failed fetches: half of the longest delay is the shortest one.
FIRST_DELAY = 1.0


@dataclass
class Limits:
    gateways: int
    quota: int
    token_life: float
    breaker_threshold: int
    call_timeout: float


def most_in_a_window(times, seconds):
    times, most, first = sorted(times), 0, 0
    for last, moment in enumerate(times):
        while moment - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def of_stage(played, stage):
    """The calls that ended in it."""
    return [one for one in played.load.answers if stage.began <= one.ended < stage.ended]


def made(played):
    """How often the cloud made the change of a call."""
    return Counter(one.call for one in played.recorder.requests if one.is_made)


def every_call_ends_with_an_answer(played, limits):
    answers = played.load.answers
    assert len(answers) > 2_000, f"{len(answers)} calls are no load"
    assert all(one.ended for one in answers), "a call has no answer"
    unnamed = [one for one in answers if one.code != "OK" and not one.reason]
    assert not unnamed, f"{len(unnamed)} errors without details: {unnamed[:3]}"
    longest = max(one.ended - one.began for one in answers)
    return f"{len(answers):,} calls, the longest {longest:.1f} s"


def every_success_is_true(played, limits):
    changes, times = [one for one in played.load.answers if one.code == "OK" and one.method != "ListAttachedDomains"], made(played)
    false = [one for one in changes if not times[one.call]]
    assert not false, f"{len(false)} successes that the cloud did not make: {false[:3]}"
    assert not played.load.contradictions, played.load.contradictions[:3]
    confirmed = sum(one.is_confirmed for one in changes)
    return f"{len(changes):,} changes, {confirmed} of them confirmed by a look-up"


def no_change_is_made_twice(played, limits):
    twice = {call: times for call, times in made(played).items() if times > 1}
    assert not twice, twice
    lost = sum(one.is_lost for one in played.recorder.requests)
    assert lost > 5, f"{lost} lost answers"
    return f"{lost} answers were lost after the change"


def not_sent_is_true(played, limits):
    times = made(played)
    failed = [one for one in played.load.answers if one.code != "OK" and one.method != "ListAttachedDomains"]
    false = [one for one in failed if one.outcome != "unknown" and times[one.call]]
    assert not false, f"{len(false)} changes that were made, although their callers were told otherwise: {false[:3]}"
    outcomes = Counter(one.outcome or "refused by the cloud" for one in failed)
    return ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common())


def requests_stay_within_the_quota(played, limits):
    """In any ten seconds; a second is too short for a busy machine, on which requests that left one by one arrive together."""
    times = [one.began for one in played.recorder.of(("read", "change"))]
    most = most_in_a_window(times, 10)
    assert most <= (11 + played.recorder.lag) * limits.quota, f"{most} requests in 10 s, quota {limits.quota} a second"
    steady = [one for one in times if played.steady.began <= one < played.steady.ended]
    rate = len(steady) / (played.steady.ended - played.steady.began)
    assert rate > limits.quota / 2, f"{rate:.0f} requests a second: the limit was not met"
    return f"at most {most / 10:.0f} a second over ten seconds, of {limits.quota}; the recorder's lag was {played.recorder.lag:.2f} s"


def a_cloud_that_is_down_is_probed(played, limits):
    times = [one.began for one in played.recorder.of(("read", "change"), played.outage.ended - 5, played.outage.ended)]
    # A probe a second, and one at each edge.
    assert len(times) <= 6 * limits.gateways, f"{len(times)} requests in the last 5 s of the outage"
    calls = [one for one in of_stage(played, played.outage) if one.reason == "CIRCUIT_OPEN"]
    assert calls, "no circuit opened"
    return f"{len(times) / 5:.0f} requests a second; {len(calls):,} calls failed with CIRCUIT_OPEN"


def tokens_are_renewed_once_and_apart(played, limits):
    times = [one.began for one in played.recorder.of(("iam",), played.steady.began, played.renewal.ended)]
    assert len(times) == limits.gateways, f"{len(times)} calls of IAM"
    # A tenth of the life; all at once would be a herd.
    spread = max(times) - min(times)
    assert spread > 2, f"all within {spread:.1f} s"
    failed = [one for one in of_stage(played, played.renewal) if one.code != "OK"]
    assert not failed, f"{len(failed)} calls failed: {failed[:3]}"
    return f"{len(times)} calls of IAM in {spread:.1f} s; {len(of_stage(played, played.renewal)):,} calls, none failed"


def an_iam_outage_is_not_multiplied(played, limits):
    seconds = played.without_iam.ended - played.without_iam.began
    # Attempts follow after at least half of 1, 2, 4, ... s.
    bound = 1 + sum(0.5 * FIRST_DELAY * (2 ** k - 1) <= seconds for k in range(1, 20))
    each = Counter(one.port for one in played.recorder.of(("iam",), played.without_iam.began, played.without_iam.ended))
    assert len(each) == limits.gateways and max(each.values()) <= bound, (bound, each)
    failed = Counter(one.reason for one in of_stage(played, played.without_iam) if one.code != "OK")
    assert failed["CREDENTIALS_UNAVAILABLE"], failed
    return f"{sum(each.values())} calls of IAM in {seconds:.0f} s, at most {max(each.values())} by a gateway; {failed.total():,} calls failed"


def a_rolling_swap_loses_no_call(played, limits):
    calls = of_stage(played, played.swap)
    failed = [one for one in calls if one.code != "OK"]
    assert calls and not failed, f"{len(failed)} of {len(calls)} calls failed: {failed[:3]}"
    fetches = Counter(one.port for one in played.recorder.of(("iam",), played.swap.began))
    fetched = [fetches[port] for port in played.fleet.ports]
    assert all(fetched), "a new gateway has no token"
    # Another one at the end of a life, if the swap takes long.
    most = 1 + (time.monotonic() - played.swap.began) // (0.75 * limits.token_life)
    assert max(fetched) <= most, f"{max(fetched)} fetches by a new gateway"
    return f"{len(calls):,} calls, none failed; {sum(fetched)} calls of IAM by {limits.gateways} new gateways"


CHECKS = [
    every_call_ends_with_an_answer, every_success_is_true, no_change_is_made_twice, not_sent_is_true, requests_stay_within_the_quota,
    a_cloud_that_is_down_is_probed, tokens_are_renewed_once_and_apart, an_iam_outage_is_not_multiplied, a_rolling_swap_loses_no_call,
]


def checks(played, limits):
    """Prints a line for each; gives the number that failed."""
    failed = 0
    for check in CHECKS:
        title = "scale: " + check.__name__.replace("_", " ")
        try:
            print(f"ok - {title} ({check(played, limits)})", flush=True)
        except AssertionError as wrong:
            failed += 1
            print(f"FAILED - {title}: {wrong}", flush=True)
    return failed


def table(played):
    rows = [["stage", "s", "calls", "OK", "other answers", "requests/s at the cloud", "calls of IAM", "in its busiest second", "note"]]
    for stage in played.stages:
        calls = of_stage(played, stage) if played.load else []
        others = Counter(one.reason or one.code for one in calls if one.code != "OK")
        seconds = stage.ended - stage.began
        requests = len(played.recorder.of(("read", "change"), stage.began, stage.ended))
        iam = [one.began for one in played.recorder.of(("iam",), stage.began, stage.ended)]
        rows.append([stage.title, f"{seconds:.0f}", f"{len(calls):,}", f"{sum(one.code == 'OK' for one in calls):,}",
                     "<br>".join(f"`{reason}` {count:,}" for reason, count in others.most_common()), f"{requests / seconds:.0f}",
                     str(len(iam)), str(most_in_a_window(iam, 1)), stage.note])
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def write(table, limits, workers):
    text = PAGE.read_text()
    said = (f"{limits.gateways} gateways, `max-requests-per-second` {limits.quota // limits.gateways} each for a quota of {limits.quota}, "
            f"`breaker-threshold` {limits.breaker_threshold}, {workers} callers, tokens of {limits.token_life} s; {time.strftime('%Y-%m-%d')}.")
    found = re.search(f"{re.escape(BEGIN)}.*{re.escape(END)}", text, re.DOTALL)
    PAGE.write_text(text.replace(found[0], f"{BEGIN}\n\n{said}\n\n{table}\n\n{END}"))
