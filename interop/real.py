"""The gateway and the vendor's SDK before a real account: both must get the same answers.

    real.py GATEWAY_PROGRAM [--emulator]

CONTRIBUTING.md lists the variables that name the account. Nothing is changed, unless they name a certificate and a
domain: then the certificate is attached to the domain on the instance and detached again, or the other way round if it
is attached already. No value of a variable is printed, and none is on a command line.
"""

import io
import logging
import os
import signal
import sys
import time
import traceback
from contextlib import contextmanager, redirect_stdout
from urllib.parse import urlsplit

from huaweicloudsdkapig.v2.region.apig_region import ApigRegion
from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException
from huaweicloudsdkroma.v2.region.roma_region import RomaRegion

import gateway
from vendor import BasicCredentials, Vendor, comparable, plain, plain_message, token_credentials

PREFIX = "APIG_REAL_"
ALWAYS = ["PROJECT_ID", "INSTANCE_ID"]
OPTIONAL = ["ENDPOINT", "REGION", "FAMILY", "AK", "SK", "SECURITY_TOKEN", "TOKEN", "CERTIFICATE_ID", "DOMAIN"]
UNKNOWN_CERTIFICATE = "0" * 32
# A change takes effect within 5 to 10 seconds.
PATIENCE = 60
SETTLING = 20
# Others may change the account between the calls of the two clients.
ATTEMPTS = 3
FLAG = "verified_client_certificate_enabled"


class Refused(Exception):
    """The cloud refused a call: HTTP status and error code."""


class CredentialsRefused(Exception):
    """Ends the checks: more than five refused signatures in a row lock a key pair for five minutes."""


class NotChecked(Exception):
    """The account has nothing to check it with."""


def settings_of(environment):
    """The variables without their prefix; ends the program if they do not fit together."""
    settings = {name: environment[PREFIX + name] for name in ALWAYS + OPTIONAL if environment.get(PREFIX + name)}
    faults = [f"{PREFIX}{name} is missing" for name in ALWAYS if name not in settings]
    for one, other in [("ENDPOINT", "REGION"), ("AK", "TOKEN")]:
        if (one in settings) == (other in settings):
            faults.append(f"exactly one of {PREFIX}{one} and {PREFIX}{other} is needed")
    for one, other in [("AK", "SK"), ("CERTIFICATE_ID", "DOMAIN")]:
        if (one in settings) != (other in settings):
            faults.append(f"{PREFIX}{one} and {PREFIX}{other} are needed together")
    if settings.get("FAMILY", "apic") not in ("apic", "apigw"):
        faults.append(f"{PREFIX}FAMILY is neither apic nor apigw")
    if faults:
        print("\n".join(faults), file=sys.stderr)
        sys.exit(2)
    return settings


def masked(settings, text):
    """The text without the values of settings, nor the host of the endpoint."""
    values = [(value, name) for name, value in settings.items() if name != "FAMILY"]
    values += [(urlsplit(value).hostname, name) for value, name in values if name == "ENDPOINT"]
    for value, name in sorted(values, key=lambda value: -len(value[0] or "")):
        text = text.replace(value, f"<{PREFIX}{name}>") if value else text
    return text


class Account:
    """Both clients of one account."""

    def __init__(self, settings, address, emulated):
        self.settings, self.emulated, self.failed = settings, emulated, 0
        self.family = settings.get("FAMILY", "apic")
        self.project, self.instance = settings["PROJECT_ID"], settings["INSTANCE_ID"]
        self.gateway = gateway.Gateway(address)
        endpoint = settings.get("ENDPOINT")
        if endpoint is None:
            region = {"apic": RomaRegion, "apigw": ApigRegion}[self.family].value_of(settings["REGION"])
            endpoint = region.endpoints[0]
        if "TOKEN" in settings:
            credentials = token_credentials(settings["TOKEN"], self.project)
        else:
            credentials = BasicCredentials(settings["AK"], settings["SK"], self.project)
            credentials = credentials.with_security_token(settings.get("SECURITY_TOKEN"))
        self.vendor = Vendor(self.family, endpoint, credentials)

    # Calls

    def by_gateway(self, method, fields):
        done, response = self.gateway.call(method, {"project_id": self.project, **fields}, token=None)
        if response is None:
            info = done.info.metadata if "ErrorInfo" in done.details else {}
            raise Refused(info.get("http_status", done.code.name), info.get("error_code", done.message))
        return plain_message(response)

    def by_vendor(self, method, fields):
        try:
            response = self.vendor.call(method, fields)
        except ServiceResponseException as error:
            raise Refused(str(error.status_code), error.error_code) from None
        output = self.gateway.method.containing_service.methods_by_name[method].output_type
        return comparable(plain(response), output)

    @staticmethod
    def all_pages(call, method, fields, member):
        rows = []
        while True:
            page = call(method, {**fields, "offset": len(rows), "limit": 100})
            rows += page.get(member, [])
            if len(rows) >= page.get("total", 0) or not page.get(member):
                return sorted(rows, key=repr)

    def both(self, call):
        """The answer that both get; `call` is made with each of them."""
        for _ in range(ATTEMPTS):
            theirs, ours = self.outcome(call, self.by_vendor), None
            if theirs[0] == "refused" and theirs[1][0] == "401":
                raise CredentialsRefused(*theirs[1])
            ours = self.outcome(call, self.by_gateway)
            if ours == theirs:
                break
        assert ours == theirs, "other answers than the SDK's: " + ", ".join(differences(ours, theirs))
        kind, answer = ours
        if kind == "refused":
            if self.emulated and answer[1] == "APIG.0101":
                raise NotChecked("the emulator does not have the method")
            raise Refused(*answer)
        return answer

    @staticmethod
    def outcome(call, client):
        try:
            return "answered", call(client)
        except Refused as refusal:
            return "refused", refusal.args

    # Output

    def say(self, text):
        print(masked(self.settings, text), flush=True)

    def check(self, title, check):
        title = f"real account, {self.family}: {title}"
        try:
            answer = check()
            self.say(f"ok - {title}")
            return answer
        except NotChecked as reason:
            self.say(f"NOT CHECKED - {title}: {reason}")
        except CredentialsRefused as refusal:
            self.say(f"FAILED - {title}: the credentials are refused: {refusal}")
            raise
        except Exception:
            self.failed += 1
            self.say(f"FAILED - {title}\n{traceback.format_exc()}")
        return None

    # Checks

    def reads(self):
        listed = self.check("the certificates of the instance", lambda: self.both(
            lambda call: self.all_pages(call, "ListCertificates", {"instance_id": self.instance}, "certs")))
        certificate = self.settings.get("CERTIFICATE_ID") or (listed[0]["id"] if listed else None)
        self.check("an unknown certificate is refused alike", self.unknown_certificate)
        self.check("one certificate", lambda: self.of_certificate(certificate, lambda call: call(
            "GetCertificate", {"certificate_id": certificate})))
        self.check("the domains of a certificate", lambda: self.of_certificate(
            certificate, lambda call: self.all_pages(
                call, "ListAttachedDomains", {"certificate_id": certificate}, "bound_domains")))

    def of_certificate(self, certificate, call):
        if certificate is None:
            raise NotChecked("no certificate is known")
        return self.both(call)

    def unknown_certificate(self):
        try:
            self.both(lambda call: call("GetCertificate", {"certificate_id": UNKNOWN_CERTIFICATE}))
        except Refused:
            return
        raise AssertionError("it is there")

    def changes(self):
        """Leaves the binding as it was found, also when a check fails."""
        before = self.check("the binding before", lambda: self.bindings(self.by_vendor))
        if before is None:
            return
        attach = ("attaches", "AttachDomains", len(before) or 1, before[0] if before else None)
        detach = ("detaches", "DetachDomains", 0, None)
        failed = self.failed
        try:
            for title, *change in [detach, attach] if before else [attach, detach]:
                self.check(title, lambda: self.change(*change))
                if self.failed > failed:
                    break
        finally:
            if self.failed > failed and not self.emulated:
                # A change that failed may still be at work.
                time.sleep(SETTLING)
            self.check("the binding is as it was before", lambda: self.restore(before))

    def bindings(self, call):
        """The rows of the certificate for the domain on the instance."""
        wanted = self.settings["DOMAIN"].lower().rstrip(".")
        fields = {"certificate_id": self.settings["CERTIFICATE_ID"], "url_domain": self.settings["DOMAIN"]}
        return [
            row for row in self.all_pages(call, "ListAttachedDomains", fields, "bound_domains")
            if row["url_domain"].lower().rstrip(".") == wanted and row["instance_id"] == self.instance
        ]

    def change(self, method, number, like, clients=None):
        """Makes a change and waits until each client lists no row for 0, else at least `number`, `like` that row."""
        clients = clients or [self.by_gateway, self.by_vendor]
        domain = {"domain": self.settings["DOMAIN"], "instance_ids": [self.instance]}
        if like and FLAG in like:
            domain[FLAG] = like[FLAG]
        clients[0](method, {"certificate_id": self.settings["CERTIFICATE_ID"], "domains": [domain]})
        end, pause = time.monotonic() + PATIENCE, 0.05
        while True:
            listed = [self.bindings(client) for client in clients]
            done = [self.as_asked(rows, number, like) for rows in listed]
            if all(done) and all(rows == listed[0] for rows in listed):
                return
            assert time.monotonic() < end, f"not listed as asked after {PATIENCE} s: {done}"
            time.sleep(pause)
            pause = min(2 * pause, 2)

    @staticmethod
    def as_asked(rows, number, like):
        # A domain with ports of its own has several rows.
        return bool(rows) == bool(number) and len(rows) >= number and (
            not like or all(row.get(FLAG) == like.get(FLAG) for row in rows))

    def restore(self, before):
        def state(rows):
            return [(row["id"], row.get(FLAG)) for row in rows]

        if state(self.bindings(self.by_vendor)) != state(before):
            # Without the gateway, which may be the cause.
            method = "AttachDomains" if before else "DetachDomains"
            self.change(method, len(before), before[0] if before else None, [self.by_vendor])


def differences(ours, theirs, path="answer"):
    """The places where two answers differ, without their values; but refusals are no secret."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted(ours.keys() | theirs.keys()):
            yield from differences(ours.get(name), theirs.get(name), f"{path}.{name}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for at, (one, other) in enumerate(zip(ours, theirs)):
            yield from differences(one, other, f"{path}[{at}]")
    elif isinstance(ours, tuple) and isinstance(theirs, tuple) and ours[0] == theirs[0] == "answered":
        yield from differences(ours[1], theirs[1], path)
    elif isinstance(ours, tuple) and isinstance(theirs, tuple):
        shown = [" ".join(map(str, answer)) if kind == "refused" else kind for kind, answer in (ours, theirs)]
        yield " instead of ".join(shown)
    elif ours != theirs:
        yield path


@contextmanager
def account(program, settings, emulated=False, kind=Account):
    names = {
        "PROJECT_ID": "PROJECT_ID", "ENDPOINT": "UPSTREAM", "REGION": "REGION", "FAMILY": "API_FAMILY",
        "TOKEN": "TOKEN", "AK": "ACCESS_KEY_ID", "SK": "SECRET_ACCESS_KEY", "SECURITY_TOKEN": "SECURITY_TOKEN",
    }
    environment = {f"APIG_GATEWAY_{names[name]}": value for name, value in settings.items() if name in names}
    environment["APIG_GATEWAY_CREDENTIALS"] = "token" if "TOKEN" in settings else "aksk"
    # The gateway has no use for the others, nor for the copies under their own names.
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    with gateway.gateway_before(program, environment=environment) as (address, _):
        yield kind(settings, address, emulated)


def check_account(program, settings, **options):
    try:
        with account(program, settings, **options) as stage:
            stage.reads()
            if "DOMAIN" in settings:
                stage.changes()
            return stage.failed
    except CredentialsRefused:
        return 1
    except Exception:
        print(masked(settings, f"FAILED - real account\n{traceback.format_exc()}"), flush=True)
        return 1


# The script itself, before the emulator


class Broken(Account):
    """The gateway attaches, and does not detach."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.attached = False

    def by_gateway(self, method, fields):
        if method == "DetachDomains":
            raise AssertionError("out of order")
        self.attached |= method == "AttachDomains"
        return super().by_gateway(method, fields)

    def say(self, text):
        """These failures are the point."""


def leaves_no_change_behind(program, settings):
    with account(program, settings, emulated=True, kind=Broken) as stage:
        stage.changes()
        assert stage.attached and stage.failed == 1, f"{stage.attached}, {stage.failed} failures"
        assert stage.bindings(stage.by_vendor) == [], "still attached"


def failures_print_no_value(program, settings):
    with redirect_stdout(io.StringIO()) as output:
        wrong = {**settings, "SK": "wrong-secret-key", "INSTANCE_ID": "no-instance"}
        failed = check_account(program, wrong, emulated=True)
    said = output.getvalue()
    assert failed == 1 and "FAILED" in said and "401" in said, said
    shown = [name for name, value in settings.items() if name != "FAMILY" and value in said]
    assert not shown and "wrong-secret-key" not in said, f"{shown} in {said}"


def check_itself(program):
    with gateway.emulated_cloud(program) as cloud:
        base = {
            "ENDPOINT": cloud.url, "PROJECT_ID": gateway.PROJECT, "INSTANCE_ID": gateway.INSTANCES[0],
            "CERTIFICATE_ID": gateway.CERTIFICATE, "DOMAIN": "www.example.com",
        }
        keys = {**base, "AK": "DEMOOPERATORKEY00001", "SK": "demo-operator-secret-key"}
        failed = check_account(program, keys, emulated=True)
        with account(program, keys, emulated=True) as stage:
            stage.check("a change that fails leaves nothing behind", lambda: leaves_no_change_behind(program, keys))
            stage.check("refused credentials end the checks, and nothing is printed of them",
                        lambda: failures_print_no_value(program, keys))
            # For the second run, which finds it attached.
            domain = {"domain": base["DOMAIN"], "instance_ids": [gateway.INSTANCES[0]], FLAG: False}
            stage.by_vendor("AttachDomains", {"certificate_id": gateway.CERTIFICATE, "domains": [domain]})
            failed += stage.failed
        return failed + check_account(program, {**base, "TOKEN": gateway.TOKEN, "FAMILY": "apigw"}, emulated=True)


def main(program, *mode):
    # Ends by an exception, so that a change is undone.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # The SDK logs addresses to standard error.
    logging.disable()
    if mode == ("--emulator",):
        failed = check_itself(program)
    else:
        assert not mode, mode
        failed = check_account(program, settings_of(os.environ))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
