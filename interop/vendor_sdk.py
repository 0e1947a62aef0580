"""The emulated cloud checked with the vendor's own SDK: what signs right is let in, and nothing else.

    vendor_sdk.py http://CLOUD_HOST:PORT

A gateway that the emulator agrees with has then read the algorithm as its author has.
"""

import os
import sys
import tempfile
import traceback

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.auth.internal import MetadataAccessor
from huaweicloudsdkcore.auth.provider import (
    EnvCredentialProvider, MetadataCredentialProvider, OidcStsCredentialProvider, PodIdentityCredentialProvider,
    ProfileCredentialProvider,
)
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkcore.region.region import Region
from huaweicloudsdkroma.v2 import (
    AttachOrDetachDomainInfo, AttachOrDetachDomainsReqBody, BatchAssociateDomainsV2Request, ListAttachedDomainsV2Request,
    RomaClient,
)

PROJECT = "73d69ae0cfcf460190522d06b60f05ad"
CERTIFICATE = "a27be832f2e9441c8127fe48e3b5ac67"
ACCESS, SECRET = "DEMOOPERATORKEY00001", "demo-operator-secret-key"


DOMAIN = "apigtest.xxx.com"


def client(cloud, credentials):
    return RomaClient.new_builder().with_credentials(credentials).with_endpoints([cloud]).build()


def attach(cloud, credentials):
    attach_by(client(cloud, credentials))


def attach_by(client):
    body = AttachOrDetachDomainsReqBody(domains=[AttachOrDetachDomainInfo(domain=DOMAIN)])
    client.batch_associate_domains_v2(BatchAssociateDomainsV2Request(certificate_id=CERTIFICATE, body=body))


def refused(cloud, credentials, ending):
    try:
        attach(cloud, credentials)
    except ClientRequestException as error:
        told = (error.status_code, error.error_code)
        assert told == (401, "APIG.0301") and error.error_msg.endswith(ending), f"{told}: {error.error_msg}"
    else:
        raise AssertionError("the cloud let it in")


def an_access_key_attaches(cloud):
    attach(cloud, BasicCredentials(ACCESS, SECRET, PROJECT))


def what_is_attached_is_listed(cloud):
    listed = client(cloud, BasicCredentials(ACCESS, SECRET, PROJECT)).list_attached_domains_v2(
        ListAttachedDomainsV2Request(certificate_id=CERTIFICATE, url_domain=DOMAIN, limit=10))
    assert {row.url_domain for row in listed.bound_domains} == {DOMAIN}, listed


def the_project_is_found_by_the_name_of_the_region(cloud):
    credentials = BasicCredentials(ACCESS, SECRET).with_iam_endpoint(cloud)
    attach_by(RomaClient.new_builder().with_credentials(credentials).with_region(Region("cn-north-4", cloud)).build())


def a_wrong_secret_is_refused(cloud):
    refused(cloud, BasicCredentials("DEMOAUDITORKEY000001", "wrong", PROJECT), "verify aksk signature fail")


def an_unknown_key_is_refused(cloud):
    refused(cloud, BasicCredentials("NOBODY", SECRET, PROJECT), "Get secretKey failed,ak:NOBODY,err:ak not exist")


def the_environment_attaches(cloud):
    os.environ.update(HUAWEICLOUD_SDK_AK=ACCESS, HUAWEICLOUD_SDK_SK=SECRET, HUAWEICLOUD_SDK_PROJECT_ID=PROJECT)
    attach(cloud, EnvCredentialProvider.get_basic().get_credentials())


def a_profile_attaches(cloud):
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(f"[basic]\nak = {ACCESS}\nsk = {SECRET}\nproject_id = {PROJECT}\n")
        file.flush()
        os.environ["HUAWEICLOUD_SDK_CREDENTIALS_FILE"] = file.name
        attach(cloud, ProfileCredentialProvider.get_basic().get_credentials())


def a_container_attaches(cloud):
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("demo-container-token")
        file.flush()
        os.environ["HC_CONTAINER_CREDENTIALS_FULL_URI"] = f"{cloud}/emulator/container/credentials"
        os.environ["HC_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = file.name
        # Its environment tells no project.
        attach(cloud, PodIdentityCredentialProvider.get_basic().get_credentials().with_project_id(PROJECT))


def an_oidc_workload_attaches(cloud):
    os.environ["HUAWEICLOUD_OIDC_PROVIDER_URN"] = "iam::demo-account:identityProviders:demo"
    os.environ["HUAWEICLOUD_OIDC_AGENCY_URN"] = "iam::demo-account:agency:demo"
    os.environ["HUAWEICLOUD_OIDC_ID_TOKEN"] = "demo-oidc-token"
    os.environ["HUAWEICLOUD_SDK_STS_ENDPOINT"] = cloud
    attach(cloud, OidcStsCredentialProvider.get_basic_credential_oidc_provider().get_credentials())


def a_machine_attaches_and_needs_its_security_token(cloud):
    # The SDK has no setting for the address.
    MetadataAccessor._METADATA_ENDPOINT = cloud
    keys = MetadataCredentialProvider.get_basic().get_credentials().with_project_id(PROJECT)
    attach(cloud, keys)
    keys = MetadataAccessor().get_credential()
    for token in [None, "another"]:
        credentials = BasicCredentials(keys.access, keys.secret, PROJECT).with_security_token(token)
        refused(cloud, credentials, "decrypt token fail")


def a_federated_identity_attaches(cloud):
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("demo-federated-token")
        file.flush()
        os.environ.update(HUAWEICLOUD_SDK_IDP_ID="demo-provider", HUAWEICLOUD_SDK_ID_TOKEN_FILE=file.name)
        credentials = EnvCredentialProvider.get_basic().get_credentials().with_iam_endpoint(cloud)
        attach(cloud, credentials.with_project_id(PROJECT))


CHECKS = (
    an_access_key_attaches, what_is_attached_is_listed, the_project_is_found_by_the_name_of_the_region,
    a_wrong_secret_is_refused, an_unknown_key_is_refused, the_environment_attaches, a_profile_attaches,
    a_container_attaches, an_oidc_workload_attaches, a_machine_attaches_and_needs_its_security_token,
    a_federated_identity_attaches,
)


def main(cloud):
    failed = 0
    for check in CHECKS:
        title = "vendor's sdk: " + check.__name__.replace("_", " ")
        try:
            check(cloud)
            print(f"ok - {title}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED - {title}", flush=True)
            traceback.print_exc()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
