"""The checks of `check`: prints a line for each, and a count at the end.

    check.py PROMTOOL GATEWAY_PROGRAM
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml

import live

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = ROOT / "target/monitoring"

# Of a promtool that hangs.
TIMEOUT = 60

# Given by Prometheus to every target.
OF_TARGETS = {"job", "instance"}
SUFFIXES = re.compile(r"_(?:bucket|count|sum)$")
METRIC = re.compile(r"\b((?:apig_gateway|rpc_server|http_client|process)_\w+)(?:\{((?:[^}\"]|\"[^\"]*\")*)\})?")


def rules():
    return [rule for group in yaml.safe_load((HERE / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]


def panels():
    """Panels with queries."""
    return [panel for panel in json.loads((HERE / "dashboard.json").read_text())["panels"] if panel["type"] != "row"]


def queries():
    """The queries of the dashboard, with values in place of Grafana's variables."""
    for panel in panels():
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "5m").replace("$job", ".*").replace("$instance", ".*")
            assert "$" not in query, f"an unknown variable in {query}"
            yield panel["title"], query


def documented():
    """The labels of each metric in docs/metrics.md."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| ", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    assert len(rows) > 20, rows
    metrics = {}
    for name, kind, labels in rows:
        names = set(re.findall(r"`(\w+)`: ", labels)) | OF_TARGETS
        metrics |= {f"{name}_{part}": names | {"le"} for part in ("bucket", "count", "sum")} if kind == "histogram" else {name: names}
    return metrics


def promtool(*arguments):
    ended = subprocess.run([PROMTOOL, *map(str, arguments)], cwd=HERE, capture_output=True, text=True, timeout=TIMEOUT)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def every_metric_is_in_the_reference():
    metrics, used = documented(), set()
    everything = [(rule["alert"], rule["expr"]) for rule in rules()] + list(queries())
    for title, expression in everything:
        found = METRIC.findall(expression)
        assert found, f"{title}: no metric in {expression}"
        for name, matchers in found:
            assert name in metrics, f"{title}: {name} is not in docs/metrics.md"
            labels = set(re.findall(r"(\w+)\s*[=!]", re.sub(r'"[^"]*"', "", matchers)))
            assert labels <= metrics[name], f"{title}: {name} has no labels {labels - metrics[name]}"
            used.add(name)
    return f"{len(used)} series in {len(everything)} expressions"


def the_dashboard_shows_every_metric():
    shown = {SUFFIXES.sub("", name) for _, query in queries() for name, _ in METRIC.findall(query)}
    missing = {SUFFIXES.sub("", name) for name in documented()} - shown - {"apig_gateway_build_info"}
    assert not missing, f"not in dashboard.json: {sorted(missing)}"
    return f"{len(shown)} metrics"


def panels_have_a_place_of_their_own():
    cells, ids = set(), set()
    for panel in json.loads((HERE / "dashboard.json").read_text())["panels"]:
        place = panel["gridPos"]
        own = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not own & cells, f"{panel['title']} covers another panel"
        assert place["x"] + place["w"] <= 24, f"{panel['title']} is beside the page"
        assert panel["id"] not in ids, f"the id of {panel['title']} is taken"
        cells |= own
        ids.add(panel["id"])
    return f"{len(ids)} panels"


def anchors(page):
    """The anchors of headings, as viewers of Markdown make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def every_runbook_exists():
    for rule in rules():
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert anchor in anchors(ROOT / page), f"{rule['alert']}: {page} has no #{anchor}"
        assert rule["labels"]["severity"] in ("warning", "critical"), rule["alert"]
    return f"{len(rules())} alerts"


def every_alert_is_in_the_documentation():
    named = set(re.findall(r"`(ApigGateway\w+)`", (ROOT / "docs/observe.md").read_text()))
    assert named == {rule["alert"] for rule in rules()}, f"docs/observe.md and alerts.yaml differ: {named ^ {rule['alert'] for rule in rules()}}"
    return f"{len(named)} alerts"


def the_rules_are_valid():
    # The addresses are put in as the documentation says.
    command, = re.findall(r"^sed .*alerts\.yaml.*$", (ROOT / "docs/observe.md").read_text(), re.MULTILINE)
    subprocess.run(["bash", "-c", f"cd {ROOT} && {command.replace('>alerts.yaml', f'>{WORK}/addressed.yaml')}"], check=True)
    addressed = (WORK / "addressed.yaml").read_text()
    assert addressed.count("runbook_url: https://") == len(rules()), "not every runbook_url got an address"
    records = [{"record": f"dashboard:{number}", "expr": query} for number, (_, query) in enumerate(queries())]
    (WORK / "dashboard.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]}))
    promtool("check", "rules", "alerts.yaml", WORK / "addressed.yaml", WORK / "dashboard.yaml")
    return f"{len(rules())} alerts, {len(records)} queries of the dashboard"


def every_alert_fires_and_clears():
    files = sorted(HERE.glob("*.test.yaml"))
    tests = [test for file in files for test in yaml.safe_load(file.read_text())["tests"]]
    for alert in (rule["alert"] for rule in rules()):
        seen = [[bool(one.get("exp_alerts")) for one in sorted(test["alert_rule_test"], key=lambda one: minutes(one["eval_time"]))
                 if one["alertname"] == alert] for test in tests]
        assert any(True in fires and fires[-1] is False for fires in seen), f"{alert} does not fire and clear in a *.test.yaml"
    promtool("test", "rules", *files)
    return f"{len(tests)} scripted failures"


def minutes(time):
    return int(time[:-1]) * {"m": 1, "h": 60, "d": 1440}[time[-1]]


def a_real_gateway_in_an_outage():
    """The same expressions, over /metrics of real gateways."""
    series = live.series(PROGRAM, WORK / "live")
    samples = lambda firing: [{"labels": "{" + ", ".join([f'alertname="{name}"', *([f'instance="{at}"'] if at else [])]) + "}", "value": 1}
                              for name, at in firing]
    asked = [{"eval_time": f"{minute}m", "expr": 'count by (alertname, instance) (ALERTS{alertstate="firing"})', "exp_samples": samples(firing)}
             for minute, firing in live.FIRING.items()]
    # Each query of the dashboard has something to show at some time.
    shown = [query for _, query in queries() if not any(name in query for name in live.EMPTY)]
    asked += [{"eval_time": f"{live.SHOWN}m", "expr": f"count(last_over_time(({query})[{live.SHOWN}m:1m])) > bool 0",
               "exp_samples": [{"labels": "{}", "value": 1}]} for query in shown]
    test = {"rule_files": [str(HERE / "alerts.yaml")], "evaluation_interval": "1m",
            "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": asked}]}
    path = WORK / "live.test.yaml"
    path.write_text(yaml.safe_dump(test, sort_keys=False, width=200))
    promtool("test", "rules", path)
    fired = {name for firing in live.FIRING.values() for name, _ in firing}
    return f"{len(series)} series, {len(fired)} alerts fired and cleared, {len(shown)} queries have results"


CHECKS = [
    every_metric_is_in_the_reference, the_dashboard_shows_every_metric, panels_have_a_place_of_their_own, every_runbook_exists,
    every_alert_is_in_the_documentation, the_rules_are_valid, every_alert_fires_and_clears, a_real_gateway_in_an_outage,
]


def main():
    failed = 0
    for check in CHECKS:
        title = "monitoring: " + check.__name__.replace("_", " ")
        try:
            print(f"ok - {title} ({check()})", flush=True)
        except Exception as wrong:
            failed += 1
            print(f"FAILED - {title}\n{type(wrong).__name__}: {wrong}", flush=True)
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    PROMTOOL, PROGRAM = sys.argv[1:]
    sys.exit(main())
