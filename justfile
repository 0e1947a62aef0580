# Every check is a recipe, and `.ci/run` calls these recipes alone: a developer runs what CI runs.
# Tools that are not part of the Rust toolchain are installed by `just tools` into target/tools.

tools := justfile_directory() / "target/tools"
export PATH := tools / "bin:" + env("PATH")
export RUST_BACKTRACE := "1"
# CI has one seed, so that a failure is the change's; by night another.
seed := env("SEED", "1")
# The gateway for checks from outside, without the long link-time optimization of a release.
program := "target/ci/apig-grpc-gateway"

# The checks of a change, in about ten minutes.
check: fmt clippy test doc proto deny demo

# Everything that CI checks, cheapest first; in under 50 minutes on two cores.
all: check (demo "release") advisories model million chaos closures siege h2spec interop sdk mesh examples chart deb image monitoring page bench-lints instructions

# The long runs before a release: they take hours.
long: (again "20") bulk (chaos "1000000") (closures "100000") (siege "30" "2" "50") (mesh "100000" "10") scale fuzz compare measure

# The formatting.
fmt:
    cargo fmt --all --check

# The lints.
clippy:
    cargo clippy --locked --all-targets -- --deny warnings
    cargo clippy --locked --lib --tests --features model -- --deny warnings

# The README's command.
test:
    cargo test --locked

# Shared state in thousands of interleavings: budget, breaker, locks, limiters, admission, credentials.
model:
    cargo test --locked --features model --lib model::

# The documentation, links included.
doc:
    RUSTDOCFLAGS='--deny warnings' cargo doc --locked --no-deps --document-private-items

# The .proto files: their style, and that no client of an earlier API breaks: of the first commit that had it, and of each
# release (tags `v*`). The first .proto had no options for generated code (`go_package`, ...): they came before any release,
# so that commit alone is compared without the rules about them.
proto:
    #!/usr/bin/env bash
    set -euo pipefail
    buf lint
    mkdir -p target
    if [ "$(git rev-parse --is-shallow-repository 2>&1)" != false ]; then
      just not-checked "changes that break the API: the first .proto is not in this clone's history"
      exit
    fi
    first=$(git log --diff-filter=A --format=%H -- proto/huaweicloud/apic/v2/certificate_service.proto | tail -n 1)
    options=(CSHARP_NAMESPACE GO_PACKAGE JAVA_MULTIPLE_FILES JAVA_OUTER_CLASSNAME JAVA_PACKAGE OBJC_CLASS_PREFIX
      PHP_METADATA_NAMESPACE PHP_NAMESPACE RUBY_PACKAGE)
    since_first=$(printf ',"FILE_SAME_%s"' "${options[@]}")
    since_first='{"version":"v2","modules":[{"path":"proto"}],"breaking":{"use":["FILE"],"except":['${since_first#,}']}}'
    for earlier in "$first" $(git tag --list 'v*'); do
      rm -rf target/earlier-api
      mkdir -p target/earlier-api
      git archive "$earlier" buf.yaml proto | tar -x -C target/earlier-api
      config=buf.yaml
      [ "$earlier" != "$first" ] || config=$since_first
      buf breaking --against target/earlier-api --config "$config"
    done

# Licences, sources and bans of the dependencies.
deny:
    cargo deny --locked check bans licenses sources

# Known vulnerabilities of the dependencies.
advisories:
    #!/usr/bin/env bash
    set -euo pipefail
    if cargo deny --locked fetch db >{{ tools }}/advisories.log 2>&1; then
      cargo deny --locked check advisories
    else
      just not-checked "advisories: the advisory database can't be fetched from here"
    fi

# The README's other command, in the profile of the tests; CI runs it in `release`, as the README has it.
demo profile="dev":
    cargo run --locked --profile {{ profile }} -- demo --once

# The tests once more, to find those that fail now and then; `just again 20` before a release.
again rounds="1":
    #!/usr/bin/env bash
    set -euo pipefail
    for round in $(seq {{ rounds }}); do
      cargo test --locked --quiet --lib --test it >target/again.log 2>&1 || { cat target/again.log; exit 1; }
      printf 'round %s: ' "$round"; grep -c '^test result: ok' target/again.log
    done

# A million generated answers through the mapping.
million:
    cargo bench --locked --profile ci --bench million

# Faults, storms, deadlines and cancels, with a model of every answer.
chaos calls="20000":
    #!/usr/bin/env bash
    set -euo pipefail
    cargo test --locked --profile ci --test chaos -- --calls {{ calls }} --seed {{ seed }} >target/chaos.log 2>&1 || { cat target/chaos.log; exit 1; }
    tail -n 1 target/chaos.log

# Ten thousand domains from a file, and the rotation of three hundred bindings, each killed and continued: minutes.
bulk:
    cargo test --locked --profile ci --test it -- --ignored commands::

# Attacks, stuck sinks, drains and overload, for longer than a test may take.
siege seconds="2" cell="0.3" rounds="5":
    cargo test --locked --profile ci --test siege -- --seconds {{ seconds }} --cell {{ cell }} --rounds {{ rounds }} --calls 20000

# Pooled connections that the cloud closes at the worst moment: `just closures 100000` before a release.
closures calls="20000":
    cargo test --locked --profile ci --test closures -- --calls {{ calls }} --seed {{ seed }}

# Each fuzz target for ten minutes. Needs cargo-fuzz; in safe Rust, sanitizers find no more than panics do.
fuzz:
    RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none answer -- -max_total_time=600
    RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none request -- -max_total_time=600 -max_len=65536
    RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none config -- -max_total_time=600
    RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none authority -- -max_total_time=600 -max_len=65536

# The HTTP/2 conformance cases. Needs Go.
h2spec: program
    tests/siege/h2spec {{ program }}

# The clients and plugins of the checks from outside, from their registries.
clients:
    interop/run --prepare
    interop/sdk/run --prepare

# Clients in other languages: docs/clients.md. Needs Python with venv and openssl; and Go, a JDK with mvn, and npm, for their clients.
interop: program
    interop/run {{ program }}

# The page of the admin port in Chromium and in w3m; screenshots in target/admin-page. Needs Python with venv, and both or root.
page: program
    interop/admin_page/run {{ program }}

# Behind and before Envoy, with the configurations of examples/mesh; `just mesh 100000 10` before a release. Needs Python with venv.
mesh calls="10000" swaps="4": program
    interop/mesh/run {{ program }} --calls {{ calls }} --swaps {{ swaps }}

# Twenty gateways before one cloud, through its outages and a rolling swap: docs/scaling.md. Three minutes. Needs Python with venv.
scale: program
    interop/scale/run {{ program }}

# Generated code in five languages, beside Google's published packages. Needs Python, Go, a JDK with Maven, Node, and Rust.
sdk:
    #!/usr/bin/env bash
    set -euo pipefail
    mkdir -p target
    for tool in python3 go javac mvn node npm cargo; do
      if ! command -v "$tool" >/dev/null; then
        just not-checked "generated code: $tool is missing"
        exit
      fi
    done
    interop/sdk/run

# The API as a file for Envoy, Postman and Kong: a `FileDescriptorSet` with all imports, and the types of error details.
descriptors:
    mkdir -p target
    buf build --as-file-descriptor-set -o target/huaweicloud-apic-v2.binpb

# The examples, each from a clean folder. Needs Python and Go, and the tools of each language.
examples: program
    #!/usr/bin/env bash
    set -euo pipefail
    examples/run {{ program }} | tee target/examples.log
    sed -n 's/^NOT CHECKED - //p' target/examples.log | while IFS= read -r reason; do just not-checked "$reason"; done

# The Debian package, through its life on this machine. Needs root on Debian or Ubuntu, without the package.
deb: program
    #!/usr/bin/env bash
    set -euo pipefail
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
      just not-checked "the Debian package: it takes root on Debian"
      exit
    fi
    for tool in lintian systemd-analyze strace strip; do
      command -v "$tool" >/dev/null && continue
      (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq lintian systemd strace binutils) >{{ tools }}/deb.log 2>&1
      break
    done
    deploy/deb/check {{ program }}

# The files of the image, run on a read-only file system. Needs root on Debian or Ubuntu.
image: program
    #!/usr/bin/env bash
    set -euo pipefail
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
      just not-checked "the image: it takes root on Debian"
      exit
    fi
    if ! command -v buildah >/dev/null; then
      (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends buildah) >{{ tools }}/image.log 2>&1
    fi
    deploy/image/check {{ program }}

# The chart: lint, schemas of Kubernetes, grace periods, configuration files. Needs Go and openssl.
chart: program chart-tools
    #!/usr/bin/env bash
    set -euo pipefail
    if ! command -v go >/dev/null; then
      just not-checked "the chart: go is missing"
      exit
    fi
    deploy/helm/check {{ program }}

# Helm, a validator with the schemas of Kubernetes, and the ServiceMonitor's definition, all as Go modules.
[private]
chart-tools:
    #!/usr/bin/env bash
    set -euo pipefail
    command -v go >/dev/null || exit 0
    mkdir -p {{ tools }}/definitions
    export GOBIN={{ tools }}/bin GOFLAGS=-buildvcs=false
    [ -x {{ tools }}/bin/helm ] || go install helm.sh/helm/v3/cmd/helm@v3.20.2
    [ -x {{ tools }}/bin/kubectl-validate ] || go install sigs.k8s.io/kubectl-validate@v0.0.4
    operator=$(cd {{ tools }} && go mod download -json github.com/prometheus-operator/prometheus-operator@v0.83.0 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
    install -m 644 "$operator"/example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml {{ tools }}/definitions/

# The files of a release, in target/dist: archive, Debian package, chart, list of components, checksums. Another profile than
# `release` is for a trial.
dist profile="release": chart-tools dist-tools
    #!/usr/bin/env bash
    set -euo pipefail
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
    host=$(rustc -vV | sed -n 's/^host: //p')
    name=apig-grpc-gateway-$version
    rm -rf target/dist target/dist-work
    mkdir -p target/dist "target/dist-work/$name"
    # The program has the list of its components in itself (`cargo audit bin`).
    cargo auditable build --locked --profile {{ profile }}
    deploy/deb/build target/{{ profile }}/apig-grpc-gateway target/dist
    # As `deploy/deb/build` has prepared it.
    cp -r target/{{ profile }}/apig-grpc-gateway target/deb/man target/deb/completions LICENSE README.md CHANGELOG.md deploy/systemd \
      "target/dist-work/$name"
    # The same commit makes the same archive.
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git log -1 --format=%ct)" -C target/dist-work -c "$name" |
      gzip -n -9 >"target/dist/$name-$host.tar.gz"
    helm package deploy/helm/apig-grpc-gateway --destination target/dist
    # In a copy: the tool writes beside each Cargo.toml.
    mkdir target/dist-work/source
    git archive HEAD | tar -x -C target/dist-work/source
    (cd target/dist-work/source && cargo cyclonedx --format json --spec-version 1.5 --target "$host" --quiet)
    # Without the folder in which it was made.
    sed "s|file://$PWD/target/dist-work/source|file:///source|g" target/dist-work/source/apig-grpc-gateway.cdx.json \
      >"target/dist/$name.cdx.json"
    (cd target/dist && sha256sum -- * >SHA256SUMS && cat SHA256SUMS)

[private]
dist-tools:
    #!/usr/bin/env bash
    set -euo pipefail
    install() {
      "$1" --version 2>/dev/null | grep -q " $2\$" ||
        CARGO_TARGET_DIR={{ tools }}/build cargo install "$1" --debug --locked --version "$2" --root {{ tools }} --quiet
    }
    install cargo-cyclonedx 0.5.9
    install cargo-auditable 0.7.7

# Alert rules and dashboard: links, names, scripted failures, a real gateway in an outage. Needs Python with venv, openssl, and Debian's package lists.
monitoring: program
    #!/usr/bin/env bash
    set -euo pipefail
    checked=0
    deploy/monitoring/check {{ program }} || checked=$?
    case "$checked" in
      0) ;;
      3) just not-checked "alert rules: promtool can't be had here" ;;
      *) exit "$checked" ;;
    esac

# A real account, beside the vendor's SDK; CONTRIBUTING.md lists the variables that name it. Needs Python with venv.
real:
    #!/usr/bin/env bash
    set -euo pipefail
    mkdir -p target
    if [ -z "$(compgen -e APIG_REAL_ || true)" ]; then
      just not-checked "a real account: no APIG_REAL_... variable names one"
      exit
    fi
    just program
    interop/real {{ program }}

[private]
program:
    cargo build --locked --profile ci

# The lints of the bench, a workspace of its own.
bench-lints:
    cargo fmt --manifest-path bench/Cargo.toml --check
    cargo clippy --locked --manifest-path bench/Cargo.toml --target-dir target/bench/build -- --deny warnings

# Instructions a call, against the recorded figures. Needs valgrind.
instructions:
    #!/usr/bin/env bash
    set -euo pipefail
    if ! command -v valgrind >/dev/null; then
      just not-checked "instructions a call: valgrind is missing"
      exit
    fi
    compared=0
    bench/instructions --check || compared=$?
    case "$compared" in
      0) ;;
      3) just not-checked "instructions a call: the recorded figures are of another compiler, C library, valgrind or processor" ;;
      *) exit "$compared" ;;
    esac

# Beside the floor, a plain gateway and Envoy, shortly. Needs Python with venv.
compare:
    bench/run --quick

# The same in full, alone on the machine.
measure:
    bench/run
    cargo bench --locked --bench mapping --bench request

# Installs buf, cargo-deny, cargo-deb and valgrind where they are missing.
tools:
    #!/usr/bin/env bash
    set -euo pipefail
    mkdir -p {{ tools }}/bin
    [ -x {{ tools }}/venv/bin/pip ] || python3 -m venv {{ tools }}/venv
    {{ tools }}/venv/bin/pip install --quiet buf-bin==1.75.0
    ln -sf {{ tools }}/venv/bin/buf {{ tools }}/bin/buf
    if ! cargo deny --version 2>/dev/null | grep -q ' 0\.20\.2$'; then
      CARGO_TARGET_DIR={{ tools }}/build cargo install cargo-deny --debug --locked --version 0.20.2 --root {{ tools }} --quiet
    fi
    if ! cargo deb --version 2>/dev/null | grep -qx '3\.8\.0'; then
      CARGO_TARGET_DIR={{ tools }}/build cargo install cargo-deb --debug --locked --version 3.8.0 --no-default-features --root {{ tools }} --quiet
    fi
    if ! command -v valgrind >/dev/null; then
      (apt-get update -qq && apt-get install -y -qq valgrind) >{{ tools }}/valgrind.log 2>&1 || true
    fi

# Says that something was not checked, now and in the summary.
[private]
not-checked reason:
    @printf '\n!!! NOT CHECKED: %s\n' {{ quote(reason) }} | tee -a target/not-checked

# The summary of all that was not checked.
[private]
summary:
    @if [ -s target/not-checked ]; then cat target/not-checked; else echo 'everything was checked'; fi
