"""What was seen, for people: a table on the terminal, the same in Markdown, and a plot. And whether it is good enough."""

import os
import platform
import subprocess
import time
from xml.sax.saxutils import escape

from rig.programs import ENVOY_VERSION, ROOT

PROGRAMS = ("gateway", "floor", "plain", "Envoy")


def machine():
    """What the figures depend on."""
    def told(*command):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    model = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "kernel": platform.release(), "cores": os.cpu_count(),
            "model": model, "rustc": told("rustc", "--version"), "commit": told("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"),
            "envoy": ENVOY_VERSION, "busy_before": round(os.getloadavg()[0], 2)}


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def times(ratio):
    return f"{ratio['median']:.2f} ({ratio['least']:.2f}..{ratio['most']:.2f})"


def table(head, rows):
    """Markdown that reads well on a terminal too."""
    rows = [list(map(str, row)) for row in rows]
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    line = lambda cells: "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"
    return "\n".join([line(head), "| " + " | ".join("-" * width for width in widths) + " |", *map(line, rows)])


def throughput(seen):
    rows = []
    for name, load in seen["loads"].items():
        for program in PROGRAMS:
            run = load["programs"][program]
            middle = {key: number(run[key]["median"]) for key in run}
            row = [name, program, middle["rate"], middle["cpu"], middle["p50"], middle["p99"], middle["p999"]]
            if program == "gateway":
                row += ["", ""]
            else:
                row += [times(load["ratios"][program]["cpu"]), times(load["ratios"][program]["p99"])]
            rows.append(row)
    head = ["in flight", "program", "calls/s", "CPU µs a call", "p50 µs", "p99 µs", "p99.9 µs", "gateway's CPU ÷ its",
            "gateway's p99 ÷ its"]
    after = ", ".join(f"{name} {kib / 1024:.1f}" for name, kib in seen["rss"].items())
    return f"{table(head, rows)}\n\nResident memory after it, MiB: {after}."


def cold(seen):
    rows = [[name, f"{run['milliseconds']['median']:.1f}", f"{run['milliseconds']['most']:.1f}", f"{run['rss']['median'] / 1024:.1f}"]
            for name, run in seen.items()]
    return table(["from start to the first good call", "median, ms", "longest, ms", "then resident, MiB"], rows)


def idle(seen):
    return table(["an idle connection that has carried a call", "KiB"], [[name, f"{kib:.1f}"] for name, kib in seen.items()])


def memory(seen):
    at = ["start", "1/4", "2/4", "3/4", "end"]
    return table([f"{seen['calls']:,} calls", *at], [["resident, MiB", *(f"{kib / 1024:.1f}" for kib in seen["rss"])]])


def compared(seen):
    rows = [[name, *(number(run[key]["median"]) for key in ("rate", "cpu", "p50", "p99"))] for name, run in seen["cases"].items()]
    rows.append(["ratio", *(times(seen["ratios"][key]) for key in ("rate", "cpu", "p50", "p99"))])
    return table(["gateway", "calls/s", "CPU µs a call", "p50 µs", "p99 µs"], rows)


def big(seen):
    rows = []
    for program in PROGRAMS:
        cpu = [seen[f"{program}, {domains}"]["cpu"]["median"] for domains in (1, 500, 1000)]
        p50 = seen[f"{program}, 1000"]["p50"]["median"]
        rows.append([program, *map(number, cpu), number(cpu[2] - cpu[1]), number(p50)])
    return table(["CPU µs a call with", "1 domain", "500", "1,000", "the second 500", "p50 µs with 1,000"], rows)


def direct(seen):
    rows = []
    for name, run in seen.items():
        caller, gateway = run["cpu"]["median"], run["gateway"]["median"]
        rows.append([name, number(caller), number(gateway) if gateway else "", number(caller + gateway),
                     *(number(run[key]["median"]) for key in ("p50", "p99"))])
    return table(["one call after the other", "CPU µs of the caller", "of the gateway", "both", "p50 µs", "p99 µs"], rows)


def size(seen):
    return table(["stripped binary", "MiB"], [[name, f"{length / 2**20:.1f}"] for name, length in seen.items()])


SECTIONS = {
    "throughput": ("Calls", throughput), "cold": ("Cold start", cold), "idle": ("Idle connections", idle),
    "memory": ("Memory over many calls", memory), "tls": ("TLS on both sides", compared),
    "direct": ("Beside calling the cloud directly", direct),
    "errors": ("Errors with full details", compared), "big": ("Large requests", big), "workers": ("Two workers", compared),
    "workers-big": ("Two workers, 100 domains in each call", compared), "size": ("Size", size)}


def targets(seen):
    """What the gateway shall reach, and whether it does: name, value, limit."""
    if "throughput" in seen:
        for name, load in seen["throughput"]["loads"].items():
            if name != "1":
                yield f"CPU ÷ floor's, {name} in flight", load["ratios"]["floor"]["cpu"]["median"], 1.4
                yield f"CPU ÷ plain's, {name} in flight", load["ratios"]["plain"]["cpu"]["median"], 0.85
            for key in ("p50", "p99"):
                yield f"{key} ÷ plain's, {name} in flight", load["ratios"]["plain"][key]["median"], 1.0
    if "cold" in seen:
        yield "resident when idle, MiB", seen["cold"]["gateway"]["rss"]["median"] / 1024, 10
        yield "cold start, ms", seen["cold"]["gateway"]["milliseconds"]["median"], 12
    if "idle" in seen:
        yield "an idle connection, KiB", seen["idle"]["gateway"], 23
    if "memory" in seen:
        _, first, _, _, last = seen["memory"]["rss"]
        yield "memory at the end ÷ at the first quarter", last / first, 1.05
    if "tls" in seen:
        yield "CPU with TLS ÷ without", seen["tls"]["ratios"]["cpu"]["median"], 1.5
    if "errors" in seen:
        yield "CPU of an error ÷ of a success", seen["errors"]["ratios"]["cpu"]["median"], 1.3
    if "big" in seen:
        cpu = {domains: seen["big"][f"gateway, {domains}"]["cpu"]["median"] for domains in (1, 500, 1000)}
        yield "CPU of the second 500 domains ÷ of the first", (cpu[1000] - cpu[500]) / (cpu[500] - cpu[1]), 1.1
    if "workers" in seen:
        yield "CPU a call with 2 workers ÷ with 1", seen["workers"]["ratios"]["cpu"]["median"], 1.2
    if "workers-big" in seen:
        yield "calls/s with 1 worker ÷ with 2, 100 domains", 1 / seen["workers-big"]["ratios"]["rate"]["median"], 0.67
    if "size" in seen:
        yield "stripped binary, MiB", seen["size"]["gateway"] / 2**20, 14


def verdicts(seen):
    rows = [[name, f"{value:.2f}", f"{limit:g}", "held" if value <= limit else "**not held**"] for name, value, limit in targets(seen)]
    return table(["target", "seen", "at most", ""], rows)


def markdown(machine, seen):
    parts = [f"{title}\n\n{text(seen[name])}" for name, (title, text) in SECTIONS.items() if name in seen]
    where = (f"Commit {machine['commit']}, {machine['time']}: {machine['cores']} cores of {machine['model']}, Linux {machine['kernel']}, "
             f"{machine['rustc']}, Envoy {machine['envoy']}; load of the machine before: {machine['busy_before']}.")
    return "\n\n### ".join([where, *parts, f"Targets\n\n{verdicts(seen)}"])


def plot(seen):
    """CPU a call, and p50 with p99, of each program under each load, each panel and load to its own scale."""
    colours = {"gateway": "#2458a6", "floor": "#8a8a8a", "plain": "#d99a26", "Envoy": "#a8448c"}
    width, row, left, bar = 760, 26, 110, 250
    out = []

    def text(x, y, words, size=12, extra=""):
        out.append(f'<text x="{x}" y="{y}" font-size="{size}" {extra}>{escape(words)}</text>')

    text(left, 24, "CPU µs a call", 14, 'font-weight="bold"')
    text(left + bar + 80, 24, "p50 µs, and p99 as a line", 14, 'font-weight="bold"')
    y = 40
    for name, load in seen["loads"].items():
        y += 20
        text(12, y, f"{name} in flight", 13, 'font-weight="bold"')
        y += 10
        most = max(run["cpu"]["median"] for run in load["programs"].values())
        slowest = max(run["p99"]["median"] for run in load["programs"].values())
        for program in PROGRAMS:
            run = load["programs"][program]
            cpu, p50, p99 = (run[key]["median"] for key in ("cpu", "p50", "p99"))
            text(left - 8, y + 14, program, 12, 'text-anchor="end"')
            length = bar * cpu / most
            out.append(f'<rect x="{left}" y="{y + 2}" width="{length:.1f}" height="16" fill="{colours[program]}"/>')
            text(left + length + 5, y + 14, number(cpu))
            x = left + bar + 80
            length, end = bar * p50 / slowest, bar * p99 / slowest
            out.append(f'<rect x="{x}" y="{y + 2}" width="{length:.1f}" height="16" fill="{colours[program]}"/>')
            out.append(f'<path d="M{x + length:.1f} {y + 10}H{x + end:.1f}M{x + end:.1f} {y + 5}V{y + 15}" stroke="{colours[program]}" stroke-width="2"/>')
            text(x + end + 5, y + 14, f"{number(p50)}, {number(p99)}")
            y += row
        y += 8
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + 40} {y + 10}" font-family="sans-serif" fill="#222">'
            f'<title>Processor time and latency of a call, by program and load</title><rect width="100%" height="100%" fill="#fff"/>')
    return "\n".join([head, *out, "</svg>"]) + "\n"
