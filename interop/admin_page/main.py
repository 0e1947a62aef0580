"""The page of the admin port in browsers, before and after an outage of the cloud.

    main.py GATEWAY_PROGRAM FOLDER_FOR_SCREENSHOTS
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripted_cloud import Answer, scripted_cloud  # noqa: E402

# For a slow machine; no check waits for it to pass.
TIMEOUT = 60
THRESHOLD = 3
# Visible ASCII, which a gateway passes on in logs and answers.
HOSTILE = "\"><script>document.title='taken'</script><img/src=x/onerror=document.title='taken'>"
# Text that must be found on the page after the outage, in any browser.
FACTS = [
    "Ready. circuit: open", "Bind the domain to an API group first", "APIG_3020", "HTTP_502",
    "CIRCUIT_OPEN", "Check the cloud, and any proxy before it.", "Check the cloud: it fails or does not answer.", "not_sent", "Last errors", "Retry budget",
    "no TLS", "Sends to", "passthrough",
]
VIEWS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True},
    "phone-dark": {
        "color_scheme": "dark", "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True,
    },
}


@contextmanager
def gateway_before(program, cloud):
    ports = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-format", "json"]
    command = [program, "serve", *ports, "--upstream", cloud.url, "--breaker-threshold", str(THRESHOLD)]
    with tempfile.TemporaryFile("w+") as rest:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            lines = (json.loads(line) for line in process.stderr)
            serving = next(line for line in lines if line["message"] == "serving")
            # Reads on, so that the gateway's log has a reader.
            reader = subprocess.Popen(["cat"], stdin=process.stderr, stdout=rest)
            yield serving["address"], f"http://{serving['admin']}"
            process.terminate()
            assert process.wait(TIMEOUT) == 0
            reader.wait(TIMEOUT)
        finally:
            process.kill()
            process.wait()


def attach(program, address):
    command = [program, "attach", "--target", f"http://{address}", "--project-id", "p", "--certificate-id", "c", "--domain", "d.example.com"]
    environment = {"APIG_GATEWAY_TOKEN": "t"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False)


def outage(program, address, cloud):
    """A success, a refusal, and failures until the circuit is open."""
    refused = Answer(404, {"error_code": "APIG.3020", "error_msg": HOSTILE}, {"X-Request-Id": HOSTILE})
    cloud.plays([Answer(), refused, Answer(502)])
    assert attach(program, address).returncode == 0
    for _ in range(THRESHOLD + 2):
        assert attach(program, address).returncode != 0


class Checks:
    def __init__(self):
        self.failed = False

    def run(self, title, check, *arguments):
        try:
            check(*arguments)
            print(f"ok - {title}", flush=True)
        except Exception:
            self.failed = True
            print(f"FAILED - {title}\n{traceback.format_exc()}", flush=True)


def has_facts(text, facts):
    missing = [fact for fact in facts if fact not in re.sub(r"\s+", " ", text)]
    assert not missing, f"without {missing}: {text}"


def look(browser, admin, name, folder, facts):
    """Opens the page, takes its picture, and checks it; everything that the browser complains about is a failure."""
    context = browser.new_context(**VIEWS[name])
    page = context.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"{request.url} failed"))
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    response = page.goto(f"{admin}/")
    assert response.status == 200
    page.screenshot(path=folder / f"{name}.png", full_page=True)
    has_facts(page.locator("body").inner_text(), facts)
    others = [url for url in requested if url != f"{admin}/" and not url.startswith("data:")]
    assert not complaints and not others, (complaints, others)
    assert page.title() == "ready: apig-grpc-gateway", page.title()
    width = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width[0] <= width[1], f"it is wider than the window: {width}"
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    is_dark = sum(int(part) for part in re.findall(r"\d+", paper)[:3]) < 3 * 128
    assert is_dark == ("dark" in name), f"{name} has the background {paper}: is the style sheet blocked?"
    context.close()


def refreshes(browser, admin):
    page = browser.new_context().new_page()
    page.goto(f"{admin}/")
    page.get_by_role("link", name="Refresh every 5 s").click()
    with page.expect_navigation(timeout=TIMEOUT * 1000):
        pass
    page.get_by_role("link", name="Stop the refresh").click()
    assert page.locator("meta[http-equiv]").count() == 0


def in_chromium(checks, program, folder):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, scripted_cloud() as cloud:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with gateway_before(program, cloud) as (address, admin):
            calm = ["Ready. Every condition is met.", "closed", "none"]
            checks.run("chromium: before a call", look, browser, admin, "light", folder, calm)
            outage(program, address, cloud)
            for name in VIEWS:
                checks.run(f"chromium: after an outage, {name}", look, browser, admin, name, folder, FACTS)
            checks.run("chromium: the page refreshes when asked to", refreshes, browser, admin)
        browser.close()


def in_text_browser(program):
    with scripted_cloud() as cloud, gateway_before(program, cloud) as (address, admin):
        outage(program, address, cloud)
        shown = subprocess.run(["w3m", "-dump", "-cols", "200", f"{admin}/"], capture_output=True, text=True, timeout=TIMEOUT, check=True)
        has_facts(shown.stdout, ["Ready.", "circuit: open", "APIG_3020", "HTTP_502", "CIRCUIT_OPEN", "Retry budget", "Last errors"])
        print(shown.stdout, file=sys.stderr)


def main(program, folder):
    checks = Checks()
    if shutil.which("chromium"):
        in_chromium(checks, program, Path(folder))
    else:
        print("NOT CHECKED - the admin page in Chromium, which is missing")
    if shutil.which("w3m"):
        checks.run("w3m: the page as text", in_text_browser, program)
    else:
        print("NOT CHECKED - the admin page in w3m, which is missing")
    return checks.failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
