"""How each example is set up and run: the commands stand in its README."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORK = ROOT / "target/examples"

# For downloads and builds on a slow machine.
SETUP_TIMEOUT = 1200


@dataclass
class Language:
    name: str
    tools: tuple
    setup: tuple
    run: str

    def missing_tools(self):
        return [tool for tool in self.tools if not shutil.which(tool)]

    def copy_to(self, folder):
        """As `cp -r` in a fresh clone: without files that git ignores."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", f"examples/{self.name}"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).exists():
                copy = Path(folder, Path(name).relative_to(f"examples/{self.name}"))
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, copy)


LANGUAGES = {
    language.name: language
    for language in (
        Language("go", ("go",), (), "go run ."),
        Language("java", ("mvn", "java"), (), "mvn -q compile exec:java"),
        Language(
            "python", ("python3",),
            ("python3 -m venv .venv", ".venv/bin/pip install --quiet -r requirements.txt"), ".venv/bin/python attach.py",
        ),
        Language("rust", ("cargo",), (), "cargo run --locked"),
        Language("typescript", ("node", "npm"), ("npm ci",), "npm start"),
    )
}


def environment():
    """Downloads are kept in target/, so that a second run needs none. A proxy has no part in calls on loopback."""
    clean = {name: value for name, value in os.environ.items()
             if not name.startswith(("GATEWAY", "APIG_GATEWAY_")) and name != "DEADLINE"}
    return clean | {
        # The same as for the Rust of `interop`: most of the crates are the same.
        "CARGO_PROFILE_DEV_DEBUG": "false",
        "CARGO_TARGET_DIR": str(ROOT / "target/interop/cargo"),
        "MAVEN_OPTS": f"-Dmaven.repo.local={WORK / 'm2'} -Dstyle.color=never",
        "NO_PROXY": "127.0.0.1,localhost",
        "PIP_CACHE_DIR": str(WORK / "pip"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "no_proxy": "127.0.0.1,localhost",
        "npm_config_cache": str(WORK / "npm"),
        "npm_config_update_notifier": "false",
    }
