// Messages of the .proto files, and their JSON: proto-loader makes objects, which differ from JSON in times alone.
import { dirname, join } from 'node:path';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { loadSync } from '@grpc/proto-loader';
import { protoPath as healthProto } from 'grpc-health-check';
import protoFiles from 'google-proto-files';

const own = join(dirname(fileURLToPath(import.meta.url)), 'proto');
const reflectionProtos = join(dirname(createRequire(import.meta.url).resolve('@grpc/reflection')), '../proto');

function load(files, folder) {
  return loadSync(files, { includeDirs: [folder], longs: String, enums: String, bytes: String });
}

const details = load(['google/rpc/status.proto', 'google/rpc/error_details.proto'], protoFiles.getProtoPath('..'));
const certificates = load(['huaweicloud/apic/v2/certificate_service.proto'], own);
const healthMessages = loadSync(healthProto, { enums: String });
const reflection = load(
  ['grpc/reflection/v1/reflection.proto', 'grpc/reflection/v1alpha/reflection.proto'],
  reflectionProtos,
);

export const service = certificates['huaweicloud.apic.v2.CertificateService'];
export const { 'grpc.health.v1.Health': healthService } = healthMessages;
export const reflectionService = (version) => reflection[`grpc.reflection.${version}.ServerReflection`];

// proto-loader gives fields their JSON names, and takes no others.
export function fromJson(value) {
  if (Array.isArray(value)) {
    return value.map(fromJson);
  }
  if (typeof value !== 'object' || value === null) {
    return value;
  }
  const entries = Object.entries(value).map(([name, inner]) => [
    name.replace(/_([a-z0-9])/g, (_, letter) => letter.toUpperCase()),
    fromJson(inner),
  ]);
  return Object.fromEntries(entries);
}

const timestamps = fieldsOfType('protobuf.Timestamp');
const durations = fieldsOfType('protobuf.Duration');

export function toJson(value) {
  if (Array.isArray(value)) {
    return value.map(toJson);
  }
  if (typeof value !== 'object' || value === null) {
    return value;
  }
  const entries = Object.entries(value).map(([name, inner]) => {
    const isMessage = typeof inner === 'object' && inner !== null;
    if (isMessage && timestamps.has(name)) return [name, timestampJson(inner)];
    if (isMessage && durations.has(name)) return [name, durationJson(inner)];
    return [name, toJson(inner)];
  });
  return Object.fromEntries(entries);
}

function fieldsOfType(type) {
  const names = new Set();
  const visit = ({ field, nestedType }) => {
    field.filter(({ typeName }) => typeName.endsWith(type)).forEach(({ name }) => names.add(name));
    nestedType.forEach(visit);
  };
  Object.values({ ...details, ...certificates })
    .filter(({ format }) => format === 'Protocol Buffer 3 DescriptorProto')
    .forEach(({ type: message }) => visit(message));
  return names;
}

function timestampJson({ seconds = 0, nanos = 0 }) {
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}${fraction(nanos)}Z`;
}

function durationJson({ seconds = 0, nanos = 0 }) {
  return `${nanos < 0 && seconds >= 0 ? '-' : ''}${seconds}${fraction(Math.abs(nanos))}s`;
}

// Three, six or nine digits, as the JSON mapping has it.
function fraction(nanos) {
  const digits = String(nanos).padStart(9, '0').replace(/(000){1,3}$/, '');
  return digits ? `.${digits}` : '';
}

export function detailsJson(bytes) {
  const status = details['google.rpc.Status'].deserialize(bytes);
  return (status.details ?? []).map(({ type_url: url, typeUrl = url, value }) => {
    const type = details[typeUrl.split('/').pop()];
    return { '@type': typeUrl, ...toJson(type.deserialize(Buffer.from(value ?? '', 'base64'))) };
  });
}
