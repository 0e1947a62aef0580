import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CnameStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CNAME_STATUS_UNSPECIFIED: _ClassVar[CnameStatus]
    CNAME_STATUS_UNRESOLVED: _ClassVar[CnameStatus]
    CNAME_STATUS_RESOLVING: _ClassVar[CnameStatus]
    CNAME_STATUS_RESOLVED: _ClassVar[CnameStatus]
    CNAME_STATUS_FAILED: _ClassVar[CnameStatus]
CNAME_STATUS_UNSPECIFIED: CnameStatus
CNAME_STATUS_UNRESOLVED: CnameStatus
CNAME_STATUS_RESOLVING: CnameStatus
CNAME_STATUS_RESOLVED: CnameStatus
CNAME_STATUS_FAILED: CnameStatus

class AttachDomainsRequest(_message.Message):
    __slots__ = ("project_id", "certificate_id", "domains")
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_ID_FIELD_NUMBER: _ClassVar[int]
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    project_id: str
    certificate_id: str
    domains: _containers.RepeatedCompositeFieldContainer[AttachOrDetachDomainInfo]
    def __init__(self, project_id: _Optional[str] = ..., certificate_id: _Optional[str] = ..., domains: _Optional[_Iterable[_Union[AttachOrDetachDomainInfo, _Mapping]]] = ...) -> None: ...

class AttachOrDetachDomainInfo(_message.Message):
    __slots__ = ("domain", "instance_ids", "verified_client_certificate_enabled")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_IDS_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_CLIENT_CERTIFICATE_ENABLED_FIELD_NUMBER: _ClassVar[int]
    domain: str
    instance_ids: _containers.RepeatedScalarFieldContainer[str]
    verified_client_certificate_enabled: bool
    def __init__(self, domain: _Optional[str] = ..., instance_ids: _Optional[_Iterable[str]] = ..., verified_client_certificate_enabled: _Optional[bool] = ...) -> None: ...

class AttachDomainsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DetachDomainsRequest(_message.Message):
    __slots__ = ("project_id", "certificate_id", "domains")
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_ID_FIELD_NUMBER: _ClassVar[int]
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    project_id: str
    certificate_id: str
    domains: _containers.RepeatedCompositeFieldContainer[AttachOrDetachDomainInfo]
    def __init__(self, project_id: _Optional[str] = ..., certificate_id: _Optional[str] = ..., domains: _Optional[_Iterable[_Union[AttachOrDetachDomainInfo, _Mapping]]] = ...) -> None: ...

class DetachDomainsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListAttachedDomainsRequest(_message.Message):
    __slots__ = ("project_id", "certificate_id", "offset", "limit", "url_domain")
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    URL_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    project_id: str
    certificate_id: str
    offset: int
    limit: int
    url_domain: str
    def __init__(self, project_id: _Optional[str] = ..., certificate_id: _Optional[str] = ..., offset: _Optional[int] = ..., limit: _Optional[int] = ..., url_domain: _Optional[str] = ...) -> None: ...

class ListAttachedDomainsResponse(_message.Message):
    __slots__ = ("size", "total", "bound_domains")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    BOUND_DOMAINS_FIELD_NUMBER: _ClassVar[int]
    size: int
    total: int
    bound_domains: _containers.RepeatedCompositeFieldContainer[BoundDomain]
    def __init__(self, size: _Optional[int] = ..., total: _Optional[int] = ..., bound_domains: _Optional[_Iterable[_Union[BoundDomain, _Mapping]]] = ...) -> None: ...

class BoundDomain(_message.Message):
    __slots__ = ("url_domain", "id", "status", "min_ssl_version", "is_http_redirect_to_https", "verified_client_certificate_enabled", "ingress_http_port", "ingress_https_port", "ssl_id", "ssl_name", "api_group_id", "api_group_name", "instance_id")
    URL_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MIN_SSL_VERSION_FIELD_NUMBER: _ClassVar[int]
    IS_HTTP_REDIRECT_TO_HTTPS_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_CLIENT_CERTIFICATE_ENABLED_FIELD_NUMBER: _ClassVar[int]
    INGRESS_HTTP_PORT_FIELD_NUMBER: _ClassVar[int]
    INGRESS_HTTPS_PORT_FIELD_NUMBER: _ClassVar[int]
    SSL_ID_FIELD_NUMBER: _ClassVar[int]
    SSL_NAME_FIELD_NUMBER: _ClassVar[int]
    API_GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    API_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    url_domain: str
    id: str
    status: CnameStatus
    min_ssl_version: str
    is_http_redirect_to_https: bool
    verified_client_certificate_enabled: bool
    ingress_http_port: int
    ingress_https_port: int
    ssl_id: str
    ssl_name: str
    api_group_id: str
    api_group_name: str
    instance_id: str
    def __init__(self, url_domain: _Optional[str] = ..., id: _Optional[str] = ..., status: _Optional[_Union[CnameStatus, str]] = ..., min_ssl_version: _Optional[str] = ..., is_http_redirect_to_https: _Optional[bool] = ..., verified_client_certificate_enabled: _Optional[bool] = ..., ingress_http_port: _Optional[int] = ..., ingress_https_port: _Optional[int] = ..., ssl_id: _Optional[str] = ..., ssl_name: _Optional[str] = ..., api_group_id: _Optional[str] = ..., api_group_name: _Optional[str] = ..., instance_id: _Optional[str] = ...) -> None: ...

class ListCertificatesRequest(_message.Message):
    __slots__ = ("project_id", "instance_id", "offset", "limit", "name", "common_name", "signature_algorithm", "type", "algorithm_type")
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMMON_NAME_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_TYPE_FIELD_NUMBER: _ClassVar[int]
    project_id: str
    instance_id: str
    offset: int
    limit: int
    name: str
    common_name: str
    signature_algorithm: str
    type: str
    algorithm_type: str
    def __init__(self, project_id: _Optional[str] = ..., instance_id: _Optional[str] = ..., offset: _Optional[int] = ..., limit: _Optional[int] = ..., name: _Optional[str] = ..., common_name: _Optional[str] = ..., signature_algorithm: _Optional[str] = ..., type: _Optional[str] = ..., algorithm_type: _Optional[str] = ...) -> None: ...

class ListCertificatesResponse(_message.Message):
    __slots__ = ("size", "total", "certs")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    CERTS_FIELD_NUMBER: _ClassVar[int]
    size: int
    total: int
    certs: _containers.RepeatedCompositeFieldContainer[Certificate]
    def __init__(self, size: _Optional[int] = ..., total: _Optional[int] = ..., certs: _Optional[_Iterable[_Union[Certificate, _Mapping]]] = ...) -> None: ...

class GetCertificateRequest(_message.Message):
    __slots__ = ("project_id", "certificate_id")
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_ID_FIELD_NUMBER: _ClassVar[int]
    project_id: str
    certificate_id: str
    def __init__(self, project_id: _Optional[str] = ..., certificate_id: _Optional[str] = ...) -> None: ...

class CreateCertificateRequest(_message.Message):
    __slots__ = ("project_id", "name", "cert_content", "private_key", "type", "instance_id", "trusted_root_ca", "algorithm_type", "cert_content_sign", "private_key_sign")
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CERT_CONTENT_FIELD_NUMBER: _ClassVar[int]
    PRIVATE_KEY_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    TRUSTED_ROOT_CA_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_TYPE_FIELD_NUMBER: _ClassVar[int]
    CERT_CONTENT_SIGN_FIELD_NUMBER: _ClassVar[int]
    PRIVATE_KEY_SIGN_FIELD_NUMBER: _ClassVar[int]
    project_id: str
    name: str
    cert_content: str
    private_key: str
    type: str
    instance_id: str
    trusted_root_ca: str
    algorithm_type: str
    cert_content_sign: str
    private_key_sign: str
    def __init__(self, project_id: _Optional[str] = ..., name: _Optional[str] = ..., cert_content: _Optional[str] = ..., private_key: _Optional[str] = ..., type: _Optional[str] = ..., instance_id: _Optional[str] = ..., trusted_root_ca: _Optional[str] = ..., algorithm_type: _Optional[str] = ..., cert_content_sign: _Optional[str] = ..., private_key_sign: _Optional[str] = ...) -> None: ...

class UpdateCertificateRequest(_message.Message):
    __slots__ = ("project_id", "certificate_id", "name", "cert_content", "private_key", "type", "instance_id", "trusted_root_ca", "algorithm_type", "cert_content_sign", "private_key_sign")
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CERT_CONTENT_FIELD_NUMBER: _ClassVar[int]
    PRIVATE_KEY_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    TRUSTED_ROOT_CA_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_TYPE_FIELD_NUMBER: _ClassVar[int]
    CERT_CONTENT_SIGN_FIELD_NUMBER: _ClassVar[int]
    PRIVATE_KEY_SIGN_FIELD_NUMBER: _ClassVar[int]
    project_id: str
    certificate_id: str
    name: str
    cert_content: str
    private_key: str
    type: str
    instance_id: str
    trusted_root_ca: str
    algorithm_type: str
    cert_content_sign: str
    private_key_sign: str
    def __init__(self, project_id: _Optional[str] = ..., certificate_id: _Optional[str] = ..., name: _Optional[str] = ..., cert_content: _Optional[str] = ..., private_key: _Optional[str] = ..., type: _Optional[str] = ..., instance_id: _Optional[str] = ..., trusted_root_ca: _Optional[str] = ..., algorithm_type: _Optional[str] = ..., cert_content_sign: _Optional[str] = ..., private_key_sign: _Optional[str] = ...) -> None: ...

class DeleteCertificateRequest(_message.Message):
    __slots__ = ("project_id", "certificate_id")
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_ID_FIELD_NUMBER: _ClassVar[int]
    project_id: str
    certificate_id: str
    def __init__(self, project_id: _Optional[str] = ..., certificate_id: _Optional[str] = ...) -> None: ...

class DeleteCertificateResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AttachCertificatesRequest(_message.Message):
    __slots__ = ("project_id", "instance_id", "group_id", "domain_id", "certificate_ids", "verified_client_certificate_enabled")
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_IDS_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_CLIENT_CERTIFICATE_ENABLED_FIELD_NUMBER: _ClassVar[int]
    project_id: str
    instance_id: str
    group_id: str
    domain_id: str
    certificate_ids: _containers.RepeatedScalarFieldContainer[str]
    verified_client_certificate_enabled: bool
    def __init__(self, project_id: _Optional[str] = ..., instance_id: _Optional[str] = ..., group_id: _Optional[str] = ..., domain_id: _Optional[str] = ..., certificate_ids: _Optional[_Iterable[str]] = ..., verified_client_certificate_enabled: _Optional[bool] = ...) -> None: ...

class AttachCertificatesResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DetachCertificatesRequest(_message.Message):
    __slots__ = ("project_id", "instance_id", "group_id", "domain_id", "certificate_ids", "verified_client_certificate_enabled")
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_IDS_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_CLIENT_CERTIFICATE_ENABLED_FIELD_NUMBER: _ClassVar[int]
    project_id: str
    instance_id: str
    group_id: str
    domain_id: str
    certificate_ids: _containers.RepeatedScalarFieldContainer[str]
    verified_client_certificate_enabled: bool
    def __init__(self, project_id: _Optional[str] = ..., instance_id: _Optional[str] = ..., group_id: _Optional[str] = ..., domain_id: _Optional[str] = ..., certificate_ids: _Optional[_Iterable[str]] = ..., verified_client_certificate_enabled: _Optional[bool] = ...) -> None: ...

class DetachCertificatesResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Certificate(_message.Message):
    __slots__ = ("id", "name", "type", "instance_id", "project_id", "common_name", "san", "not_after", "signature_algorithm", "create_time", "update_time", "is_has_trusted_root_ca", "algorithm_type", "version", "organization", "organizational_unit", "locality", "state", "country", "not_before", "serial_number", "issuer")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    COMMON_NAME_FIELD_NUMBER: _ClassVar[int]
    SAN_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    IS_HAS_TRUSTED_ROOT_CA_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_TYPE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ORGANIZATION_FIELD_NUMBER: _ClassVar[int]
    ORGANIZATIONAL_UNIT_FIELD_NUMBER: _ClassVar[int]
    LOCALITY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    SERIAL_NUMBER_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    type: str
    instance_id: str
    project_id: str
    common_name: str
    san: _containers.RepeatedScalarFieldContainer[str]
    not_after: _timestamp_pb2.Timestamp
    signature_algorithm: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    is_has_trusted_root_ca: bool
    algorithm_type: str
    version: int
    organization: _containers.RepeatedScalarFieldContainer[str]
    organizational_unit: _containers.RepeatedScalarFieldContainer[str]
    locality: _containers.RepeatedScalarFieldContainer[str]
    state: _containers.RepeatedScalarFieldContainer[str]
    country: _containers.RepeatedScalarFieldContainer[str]
    not_before: _timestamp_pb2.Timestamp
    serial_number: str
    issuer: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., type: _Optional[str] = ..., instance_id: _Optional[str] = ..., project_id: _Optional[str] = ..., common_name: _Optional[str] = ..., san: _Optional[_Iterable[str]] = ..., not_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., signature_algorithm: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., is_has_trusted_root_ca: _Optional[bool] = ..., algorithm_type: _Optional[str] = ..., version: _Optional[int] = ..., organization: _Optional[_Iterable[str]] = ..., organizational_unit: _Optional[_Iterable[str]] = ..., locality: _Optional[_Iterable[str]] = ..., state: _Optional[_Iterable[str]] = ..., country: _Optional[_Iterable[str]] = ..., not_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., serial_number: _Optional[str] = ..., issuer: _Optional[_Iterable[str]] = ...) -> None: ...
