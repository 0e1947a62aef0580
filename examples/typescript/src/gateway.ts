// The connection.
import { readFileSync } from 'node:fs';
import { credentials, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { ProtoGrpcType } from './generated/certificate_service.js';

const file = (name: string) => new URL(`../${name}`, import.meta.url).pathname;

// The options are those of the script `generate` in package.json.
export const messages = loadSync(
  ['huaweicloud/apic/v2/certificate_service.proto', 'google/rpc/status.proto', 'google/rpc/error_details.proto'],
  { includeDirs: [file('proto')], longs: Number, enums: String, defaults: true },
);

export function env(name: string, otherwise: string): string {
  return process.env[name] || otherwise;
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
