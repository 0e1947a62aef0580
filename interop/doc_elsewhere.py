"""The commands of the documents that `doc_commands.py` does not run, each with the check of CI that does."""

import re

# Page, the command's beginning as a pattern, and the recipe that runs it or the same with other arguments; none: a part of a command
# beside it, or an editor.
ELSEWHERE = [
    ("README.md", r"cargo run --release -- demo", "demo"),
    ("README.md", r"cargo test", "test"),
    ("README.md", r"cargo install --locked --path \.", "demo"),
    ("CONTRIBUTING.md", r"target/interop/venv/bin/python -B interop/table\.py ", "interop"),
    ("docs/commands.md", r"export APIG_GATEWAY_TARGET=", None),
    ("docs/deploy.md", r"docker (build|run) ", "image"),
    ("docs/deploy.md", r"helm (install|upgrade) ", "chart"),
    ("docs/generate.md", r"buf generate", "sdk"),
    ("docs/generate.md", r"python3 -m grpc_tools\.protoc ", "sdk"),
    ("docs/generate.md", r"cat api\.binpb errors\.binpb ", None),
    ("docs/install.md", r"(apt|cargo install --locked cargo-deb|cargo build --locked --release|deploy/deb/build|systemctl) ?", "deb"),
    ("docs/install.md", r"apig-grpc-gateway check --config /etc/", "deb"),
    ("docs/install.md", r"editor ", None),
    ("docs/observe.md", r"kill -USR[12] ", "test"),
    ("docs/observe.md", r"sed .* deploy/monitoring/alerts\.yaml", "monitoring"),
    ("docs/performance.md", r"bench/run", "compare"),
    ("docs/performance.md", r"bench/instructions", "instructions"),
    ("docs/performance.md", r"cargo bench ", "measure"),
]


def is_elsewhere(page, command):
    return any(entry[0] == page and re.match(entry[1], command) for entry in ELSEWHERE)


def not_elsewhere(page, commands, run_here, root):
    """The faults of the commands of a page that are not run here."""
    recipes = set(re.findall(r"^(\w[\w-]*)[^:\n]*:(?!=)", (root / "justfile").read_text(), re.MULTILINE))
    for command in commands:
        command = "\n".join(line for line in command.splitlines() if not line.lstrip().startswith("#")).strip()
        entry = next((entry for entry in ELSEWHERE if entry[0] == page and re.match(entry[1], command)), None)
        if entry:
            if entry[2] and entry[2] not in recipes:
                yield f"there is no recipe {entry[2]} to run `{command}`"
        elif found := re.match(r"just ([\w-]+)", command):
            if found[1] not in recipes:
                yield f"there is no recipe {found[1]}: `{command}`"
        elif command and not run_here.search(command):
            yield f"nothing runs `{command}`: see ELSEWHERE in interop/doc_elsewhere.py"
