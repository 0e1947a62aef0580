"""Runs every command line of the gateway or of a gRPC tool in README.md and docs/ as it is written there.

    doc_commands.py --prepare        installs the tools in target/interop/bin
    doc_commands.py GATEWAY_PROGRAM

The documents name fixed addresses, so the programs run in network and mount namespaces of their own, where nothing else can have
the ports, /run is empty and gateway.example.org is a loopback address. Prints a line for each command. A command that EXPECTED
does not have, and an entry of EXPECTED without a command, are failures; so are other commands of `sh` blocks without an entry in ELSEWHERE.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from contextlib import ExitStack
from pathlib import Path

from doc_elsewhere import is_elsewhere, not_elsewhere
from doc_sandbox import Program, certificates, enter, isolate

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "target/interop"
BIN = WORK / "bin"

# Of grpcurl, `interop/run` has the same version.
GO_TOOLS = {
    "grpcurl": "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4",
    "grpc-health-probe": "github.com/grpc-ecosystem/grpc-health-probe@v0.4.63",
    "ghz": "github.com/bojand/ghz/cmd/ghz@v0.93.0",
}
# Runs the documents' lines for jq where there is none.
GOJQ = "github.com/itchyny/gojq/cmd/gojq@v0.12.17"

COMMANDS = "attach|detach|attached|rotate|certificates|health|check|errors|completions|reference|serve|demo|emulator"
TOOL = rf"(?:grpcurl|grpc[-_]health[-_]probe|ghz|buf curl|apig-grpc-gateway (?:{COMMANDS}))"
COMMAND = re.compile(rf"(?<![\w/.-]){TOOL}(?=\s)")
FENCE = re.compile(r"^([ \t]*)(```+)(\w*)[^\n]*\n(.*?)^\1\2[ \t]*$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(rf"`({TOOL}\s[^`]+)`")
# What looks like a command where none is looked for.
STRAY = re.compile(rf"(?<![\w/.-]){TOOL}\s+(?:-|https?:|\S+:\d).*")

TOKEN = "demo-operator-token"
# Of the emulator's own world.
PROJECT = "73d69ae0cfcf460190522d06b60f05ad"
CERTIFICATE = "a27be832f2e9441c8127fe48e3b5ac67"
# For a slow machine; no check waits for it to pass.
TIMEOUT = 60


def says(*patterns):
    def check(output, _):
        for pattern in patterns:
            assert re.search(pattern, output, re.MULTILINE), f"no {pattern!r} in the output"
    return check


def is_empty_response(output, _):
    assert json.loads(output) == {}, "the response is not empty"


def lists_the_binding(output, _):
    domains = json.loads(output)["boundDomains"]
    assert "www.example.com" in [row["urlDomain"] for row in domains], "www.example.com is not in the list"


def creates_a_certificate(output, _):
    row = json.loads(output)
    assert row["id"] and row["name"] == "www_2026", "no certificate"
    assert "private" not in output.lower(), "the response has a key"


def nothing(output, _):
    """The exit code says it."""


def is_the_page(page):
    def check(output, _):
        assert output.strip() == (ROOT / page).read_text().strip(), f"the output is not {page}"
    return check


def has_all_calls_ok(output, _):
    shares = re.findall(r"^\s+\[(\w+)\]\s+(\d+) responses", output, re.MULTILINE)
    assert shares == [("OK", "2000")], f"status codes: {shares}"


def writes(file, *names):
    def check(_, folder):
        written = (folder / file).read_bytes()
        for name in names:
            assert name.encode() in written, f"{name} is not in {file}"
    return check


# The check of a command that serves until it is told to stop: the program starts, alone in the sandbox.
SERVES = object()


# Page, what tells the command from others of the page, and what its output promises.
EXPECTED = [
    ("README.md", ["apig-grpc-gateway serve"], SERVES),
    ("README.md", ["grpcurl", "/AttachDomains"], is_empty_response),
    ("docs/call.md", ["grpcurl", "/AttachDomains"], is_empty_response),
    ("docs/call.md", ["grpcurl", "unix:/run/apig/gateway.sock", "/ListAttachedDomains"], lists_the_binding),
    ("docs/call.md", ["grpcurl", "-cacert", "/ListAttachedDomains"], lists_the_binding),
    ("docs/call.md", ["buf curl", "http://127.0.0.1:50051"], lists_the_binding),
    ("docs/call.md", ["buf curl", "--unix-socket"], lists_the_binding),
    ("docs/call.md", ["buf curl", "--cacert"], lists_the_binding),
    ("docs/call.md", ["apig-grpc-gateway attach"], says(r"^OK\b")),
    ("docs/call.md", ["jq", "grpcurl", "/CreateCertificate"], creates_a_certificate),
    ("docs/commands.md", ["certificates list"], says(r"^a27be832f2e9441c8127fe48e3b5ac67\s+example_com\b")),
    ("docs/commands.md", ["attached", "ac67 --all"], says(r"^www\.example\.com\b")),
    ("docs/commands.md", ["certificates update"], says(r"a27be832f2e9441c8127fe48e3b5ac67")),
    ("docs/commands.md", ["attached", "| jq"], says(r"^www\.example\.com$")),
    ("docs/commands.md", ["apig-grpc-gateway attach", "--from-file domains.csv"], says(r"\b2 attached\b")),
    ("docs/commands.md", ["rotate", "--dry-run"], says(r"api\.example\.com")),
    ("docs/commands.md", ["rotate", '"$NEW"\n'], says("^2 of 2 bindings")),
    ("docs/commands.md", ["completions bash"], nothing),
    ("docs/commands.md", ["completions zsh"], writes("_apig-grpc-gateway", "#compdef apig-grpc-gateway", "--max-attempts")),
    ("docs/commands.md", ["completions fish"], writes(".config/fish/completions/apig-grpc-gateway.fish", "complete -c apig-grpc-gateway", "max-attempts")),
    ("docs/commands.md", ["reference man"], writes("/usr/local/share/man/man1/apig-grpc-gateway-serve.1", "max\\-attempts")),
    ("docs/configure.md", ["serve --region"], SERVES),
    ("docs/configure.md", ["serve --upstream"], SERVES),
    ("docs/errors.md", ["errors --output markdown"], is_the_page("docs/errors.md")),
    ("docs/generate.md", ["grpcurl", "-protoset-out api.binpb"],
     writes("api.binpb", "google/api/http.proto", "google/protobuf/timestamp.proto", "certificate_service.proto")),
    ("docs/generate.md", ["grpcurl", "-protoset-out errors.binpb"],
     writes("errors.binpb", "google/rpc/error_details.proto", "google.rpc", "google/protobuf/duration.proto")),
    ("docs/observe.md", ["apig-grpc-gateway health"], says(r"SERVING")),
    ("docs/observe.md", ["grpc-health-probe", "-addr=127.0.0.1:50051"], says(r"^status: SERVING$")),
    ("docs/observe.md", ["grpc-health-probe", "-addr=unix:/run/apig/gateway.sock"], says(r"^status: SERVING$")),
    ("docs/observe.md", ["grpc-health-probe", "-tls-client-cert"], says(r"^status: SERVING$")),
    ("docs/observe.md", ["grpcurl", "grpc.health.v1.Health/Check"], says(r'"status": "SERVING"')),
    ("docs/observe.md", ["ENDPOINT=http://collector:4318", "serve"], SERVES),
    ("docs/observe.md", ["ENDPOINT=http://collector:4317", "serve"], SERVES),
    ("docs/performance.md", ["ghz", "127.0.0.1:50051"], has_all_calls_ok),
    ("docs/performance.md", ["ghz", "unix:/run/apig/gateway.sock"], has_all_calls_ok),
    ("docs/performance.md", ["ghz", "--cacert"], has_all_calls_ok),
    ("docs/troubleshoot.md", ["errors APIG.3020"], says("NOT_FOUND")),
    ("docs/upgrade.md", ["check --config"], says("max.requests.per.second")),
]
# Shows that the command before it had an effect on its shell.
AFTER = {"source <(apig-grpc-gateway completions bash)": "complete -p apig-grpc-gateway"}


def prepare():
    BIN.mkdir(parents=True, exist_ok=True)
    tools = dict(GO_TOOLS) if shutil.which("jq") else {**GO_TOOLS, "jq": GOJQ}
    for name, module in tools.items():
        stamp = BIN / f"{name}.version"
        version = module.partition("@")[2]
        if (BIN / name).exists() and stamp.exists() and stamp.read_text().strip() == version:
            continue
        print(f"Preparing {name}", file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=BIN) as folder:
            environment = {**os.environ, "GOBIN": folder}
            subprocess.run(["go", "install", module], env=environment, check=True, timeout=600)
            built, = Path(folder).iterdir()
            built.replace(BIN / name)
        stamp.write_text(version + "\n")
    subprocess.run([ROOT / "interop/prepare-python"], check=True, timeout=600)
    buf = BIN / "buf"
    buf.unlink(missing_ok=True)
    buf.symlink_to("../venv/bin/buf")


def is_complete(command):
    """Whether the shell reads the lines as a whole command."""
    if command.endswith("\\"):
        return False
    return subprocess.run(["bash", "-n", "-c", command], stderr=subprocess.DEVNULL, timeout=TIMEOUT).returncode == 0


def commands_of_block(text):
    lines = []
    for line in text.splitlines():
        lines.append(line)
        if is_complete("\n".join(lines)):
            yield "\n".join(lines)
            lines = []
    if lines:
        yield "\n".join(lines)


def commands_of_page(page):
    """The commands of a page in its order, from `sh` blocks and from code in a sentence; anywhere else they are an error."""
    text = (ROOT / page).read_text()
    found = []

    def take(pattern, commands):
        nonlocal text
        for match in pattern.finditer(text):
            found.extend((match.start(), command) for command in commands(match) if COMMAND.search(command))
        # Positions stay; blocks of another language stay, too, for the search of stray commands.
        other = lambda match: pattern is FENCE and match[3] != "sh"
        text = pattern.sub(lambda match: match[0] if other(match) else " " * len(match[0]), text)

    take(FENCE, lambda fence: commands_of_block(textwrap.dedent(fence[4])) if fence[3] == "sh" else [])
    take(SPAN, lambda span: [span[1]])
    stray = STRAY.search(text)
    assert not stray, f"{page}: a command in neither an `sh` block nor a span of code: {stray[0]}"
    return [command for _, command in sorted(found, key=lambda one: one[0])]


def commands_of_blocks(page):
    """All commands of `sh` blocks, also those of other tools."""
    blocks = [fence for fence in FENCE.finditer((ROOT / page).read_text()) if fence[3] == "sh"]
    return [command for fence in blocks for command in commands_of_block(textwrap.dedent(fence[4]))]


def title_of(page, command):
    """A command on a line, without its message."""
    short = re.sub(r"'\{.*?\}'", "'{…}'", command, flags=re.DOTALL)
    words = short.replace("\\\n", " ").split()
    return f"{page}: {' '.join(words)}"


def pages():
    return ["README.md", "CONTRIBUTING.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]


def run(command, check, folder, environment):
    try:
        # As typed, except that a part of a pipeline may not fail unseen.
        typed = "\n".join([command, *([AFTER[command]] if command in AFTER else [])])
        ended = subprocess.run(["bash", "-o", "pipefail", "-c", typed], cwd=folder, env=environment, text=True,
                               stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return f"does not end in {TIMEOUT} s"
    shown = f"\n{command}\n{ended.stdout}{ended.stderr}"
    if ended.returncode != 0:
        return f"ended with exit code {ended.returncode}{shown}"
    try:
        check(ended.stdout + ended.stderr if not ended.stdout else ended.stdout, folder)
    except (AssertionError, KeyError, ValueError) as wrong:
        return f"{type(wrong).__name__}: {wrong}{shown}"
    return None


def all_commands(folder, environment):
    """Runs them; gives a title and what is wrong, if anything, for each."""
    unused = list(EXPECTED)
    for page in pages():
        for command in commands_of_page(page):
            if is_elsewhere(page, command):
                continue
            title = title_of(page, command)
            fitting = [one for one in EXPECTED if one[0] == page and all(part in f"{command}\n" for part in one[1])]
            if len(fitting) != 1:
                yield title, f"{len(fitting)} entries of EXPECTED in interop/doc_commands.py are about this command"
            elif fitting[0] not in unused:
                yield title, "its entry of EXPECTED is about another command, too"
            elif fitting[0][2] is SERVES:
                # `main` has run it.
                unused.remove(fitting[0])
            else:
                unused.remove(fitting[0])
                # A token for callers is a fault of a gateway's configuration.
                own = {name: value for name, value in environment.items() if name != "APIG_GATEWAY_TOKEN"}
                yield title, run(command, fitting[0][2], folder, own if " check " in command else environment)
    for page, parts, _ in unused:
        yield f"{page}: {' '.join(parts)}", "is not in the page"


def serves(command, folder, environment):
    try:
        # The shell becomes the program; `env` takes the variables before it.
        with Program(["bash", "-c", f"exec env {command}"], folder, environment, TIMEOUT):
            return None
    except RuntimeError as wrong:
        return str(wrong)


def files(folder):
    """Those that the documents name."""
    os.mkdir("/run/secrets")
    Path("/run/secrets/token").write_text(TOKEN)
    (folder / ".config/fish/completions").mkdir(parents=True)
    # In bash, index 1 is the second element.
    (folder / "environment.sh").write_text("fpath=(nowhere .)\n")
    (folder / "gateway.toml").write_text('region = "cn-north-4"\n')


def new_certificate(folder, environment):
    """The id of a certificate that can take the place of the documents' own one."""
    command = ["apig-grpc-gateway", "certificates", "create", "--project-id", PROJECT, "--name", "new_one",
               "--cert-content-file", "chain.pem", "--private-key-file", "key.pem", "--output", "json"]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout)["id"]


def main(program):
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        enter(folder, {"gateway.example.org": "127.0.0.2"})
        certificates(folder)
        # The file that the page on commands shows.
        shown = re.search(r"^```csv\n(.*?)^```$", (ROOT / "docs/commands.md").read_text(), re.DOTALL | re.MULTILINE)
        (folder / "domains.csv").write_text(shown[1])
        (folder / "bin").mkdir()
        (folder / "bin/apig-grpc-gateway").symlink_to(program)
        plain = {name: value for name, value in os.environ.items()
                 if not name.startswith("APIG_GATEWAY_") and not name.lower().endswith("_proxy")}

        def start(*arguments):
            stack.enter_context(Program([program, *arguments], folder, plain, TIMEOUT))

        wrong = 0

        def report(title, fault):
            nonlocal wrong
            print(f"ok - {title}" if fault is None else f"FAILED - {title}: {fault}", flush=True)
            wrong += fault is not None

        files(folder)
        path = f"{folder}/bin:{BIN}:{plain['PATH']}"
        for page in pages():
            for fault in not_elsewhere(page, commands_of_blocks(page), COMMAND, ROOT):
                report(page, fault)
            for command in commands_of_page(page):
                if re.match(r"(?:\w+=\S+ )*apig-grpc-gateway serve\b", command):
                    report(title_of(page, command), serves(command, folder, {**plain, "PATH": path}))

        start("emulator", "--second-certificate", "replaces")
        cloud = ["--upstream", "http://127.0.0.1:18080"]
        start("serve", *cloud, "--project-id", PROJECT)
        start("serve", *cloud, "--listen", "unix:/run/apig/gateway.sock", "--admin-listen", "off")
        start("serve", *cloud, "--listen", "127.0.0.2:50051", "--admin-listen", "off", "--tls-certificate",
              "gateway.pem", "--tls-key", "gateway-key.pem", "--tls-client-ca", "ca.pem")
        environment = {**plain, "PATH": path, "TOKEN": TOKEN, "APIG_GATEWAY_TOKEN": TOKEN, "HOME": str(folder),
                       "BASH_ENV": str(folder / "environment.sh"), "ID": CERTIFICATE, "OLD": CERTIFICATE}
        environment["NEW"] = new_certificate(folder, environment)
        for title, fault in all_commands(folder, environment):
            report(title, fault)
        return min(wrong, 1)


def not_checked(reason):
    """As `just not-checked`."""
    line = f"\n!!! NOT CHECKED: {reason}\n"
    print(line, flush=True)
    with open(ROOT / "target/not-checked", "a") as summary:
        summary.write(line)


if __name__ == "__main__":
    if sys.argv[1:] == ["--prepare"]:
        prepare()
    elif sys.argv[1] == "--inside":
        sys.exit(main(sys.argv[2]))
    elif not shutil.which("openssl"):
        not_checked("command lines of the documents: openssl is missing")
    else:
        # Comes back only where namespaces are not allowed.
        isolate([sys.executable, "-B", __file__, "--inside", os.path.abspath(sys.argv[1])])
        not_checked("command lines of the documents: unshare is missing or may not make network and mount namespaces here")
