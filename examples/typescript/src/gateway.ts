// The connection, and the details of errors.
import { readFileSync } from 'node:fs';
import { type ServiceError, credentials, loadPackageDefinition } from '@grpc/grpc-js';
import { type MessageTypeDefinition, loadSync } from '@grpc/proto-loader';
import type { ProtoGrpcType } from './generated/certificate_service.js';
import type { BadRequest__Output as BadRequest } from './generated/google/rpc/BadRequest.js';
import type { ErrorInfo__Output as ErrorInfo } from './generated/google/rpc/ErrorInfo.js';
import type { Help__Output as Help } from './generated/google/rpc/Help.js';
import type { PreconditionFailure__Output as PreconditionFailure } from './generated/google/rpc/PreconditionFailure.js';
import type { QuotaFailure__Output as QuotaFailure } from './generated/google/rpc/QuotaFailure.js';
import type { RequestInfo__Output as RequestInfo } from './generated/google/rpc/RequestInfo.js';
import type { ResourceInfo__Output as ResourceInfo } from './generated/google/rpc/ResourceInfo.js';
import type { RetryInfo__Output as RetryInfo } from './generated/google/rpc/RetryInfo.js';
import type { Status__Output as Status } from './generated/google/rpc/Status.js';

export type Detail =
  | ({ type: 'ErrorInfo' } & ErrorInfo)
  | ({ type: 'BadRequest' } & BadRequest)
  | ({ type: 'ResourceInfo' } & ResourceInfo)
  | ({ type: 'QuotaFailure' } & QuotaFailure)
  | ({ type: 'PreconditionFailure' } & PreconditionFailure)
  | ({ type: 'RetryInfo' } & RetryInfo)
  | ({ type: 'RequestInfo' } & RequestInfo)
  | ({ type: 'Help' } & Help);

const file = (name: string) => new URL(`../${name}`, import.meta.url).pathname;

// The options are those of the script `generate` in package.json.
const messages = loadSync(
  ['huaweicloud/apic/v2/certificate_service.proto', 'google/rpc/status.proto', 'google/rpc/error_details.proto'],
  { includeDirs: [file('proto')], longs: Number, enums: String, defaults: true },
);

export function env(name: string, otherwise: string): string {
  return process.env[name] || otherwise;
}

function decode(name: string, bytes: Buffer): object {
  return (messages[name] as MessageTypeDefinition<object, object>).deserialize(bytes);
}

/** The details of an error: none if it is not the gateway's. */
export function details(error: ServiceError): Detail[] {
  const [bytes] = error.metadata.get('grpc-status-details-bin') as Buffer[];
  if (!bytes) return [];
  const status = decode('google.rpc.Status', bytes) as Status;
  return status.details.map(({ type_url: url, value }) => {
    const name = url.slice(url.lastIndexOf('/') + 1);
    return { ...decode(name, value), type: name.replace('google.rpc.', '') } as Detail;
  });
}

/** Mutual TLS if the variables name the files, and plain text otherwise. */
function channelCredentials() {
  if (!process.env.GATEWAY_CA) return credentials.createInsecure();
  const [ca, key, certificate] = ['GATEWAY_CA', 'GATEWAY_KEY', 'GATEWAY_CERTIFICATE'].map((name) =>
    readFileSync(env(name, '')));
  return credentials.createSsl(ca, key, certificate);
}

const { CertificateService } = (loadPackageDefinition(messages) as unknown as ProtoGrpcType).huaweicloud.apic.v2;

/** One client for all calls: it connects on the first call, and again after a restart of the gateway. */
export const client = new CertificateService(
  process.argv[2] ?? env('GATEWAY', '127.0.0.1:50051'),
  channelCredentials(),
  {
    'grpc.service_config': readFileSync(file('service-config.json'), 'utf8'),
    'grpc.keepalive_time_ms': 30_000,
    'grpc.keepalive_timeout_ms': 10_000,
  },
);
