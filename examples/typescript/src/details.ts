// The details of an error, by type.
import type { ServiceError } from '@grpc/grpc-js';
import type { MessageTypeDefinition } from '@grpc/proto-loader';
import type { BadRequest__Output as BadRequest } from './generated/google/rpc/BadRequest.js';
import type { ErrorInfo__Output as ErrorInfo } from './generated/google/rpc/ErrorInfo.js';
import type { Help__Output as Help } from './generated/google/rpc/Help.js';
import type { PreconditionFailure__Output as PreconditionFailure } from './generated/google/rpc/PreconditionFailure.js';
import type { QuotaFailure__Output as QuotaFailure } from './generated/google/rpc/QuotaFailure.js';
import type { RequestInfo__Output as RequestInfo } from './generated/google/rpc/RequestInfo.js';
import type { ResourceInfo__Output as ResourceInfo } from './generated/google/rpc/ResourceInfo.js';
import type { RetryInfo__Output as RetryInfo } from './generated/google/rpc/RetryInfo.js';
import type { Status__Output as Status } from './generated/google/rpc/Status.js';
import { messages } from './gateway.js';

type Detail =
  | ({ type: 'ErrorInfo' } & ErrorInfo)
  | ({ type: 'BadRequest' } & BadRequest)
  | ({ type: 'ResourceInfo' } & ResourceInfo)
  | ({ type: 'QuotaFailure' } & QuotaFailure)
  | ({ type: 'PreconditionFailure' } & PreconditionFailure)
  | ({ type: 'RetryInfo' } & RetryInfo)
  | ({ type: 'RequestInfo' } & RequestInfo)
  | ({ type: 'Help' } & Help);

function decode(name: string, bytes: Buffer): object {
  return (messages[name] as MessageTypeDefinition<object, object>).deserialize(bytes);
}

/** The details of an error: none if it is not the gateway's. */
function details(error: ServiceError): Detail[] {
  const [bytes] = error.metadata.get('grpc-status-details-bin') as Buffer[];
  if (!bytes) return [];
  const status = decode('google.rpc.Status', bytes) as Status;
  return status.details.map(({ type_url: url, value }) => {
    const name = url.slice(url.lastIndexOf('/') + 1);
    return { ...decode(name, value), type: name.replace('google.rpc.', '') } as Detail;
  });
}

export function printDetails(error: ServiceError): void {
  const all = details(error);
  if (all.length === 0) {
    console.log("  no details: not the gateway's error; the change may have been made if the client was connected");
  }
  for (const detail of all) {
    switch (detail.type) {
      case 'ErrorInfo':
        console.log(`  ErrorInfo: ${detail.reason} of ${detail.domain}`);
        for (const [key, value] of Object.entries(detail.metadata)) console.log(`  ErrorInfo: ${key} = ${value}`);
        break;
      case 'BadRequest':
        for (const { field, description } of detail.fieldViolations) {
          console.log(`  BadRequest: ${field}: ${description}`);
        }
        break;
      case 'ResourceInfo':
        console.log(`  ResourceInfo: ${detail.resourceType} ${detail.resourceName}`);
        break;
      case 'QuotaFailure':
        for (const { subject, description } of detail.violations) {
          console.log(`  QuotaFailure: ${subject}: ${description}`);
        }
        break;
      case 'PreconditionFailure':
        for (const { type, subject, description } of detail.violations) {
          console.log(`  PreconditionFailure: ${type} of ${subject}: ${description}`);
        }
        break;
      case 'RetryInfo': {
        const { seconds, nanos } = detail.retryDelay ?? { seconds: 0, nanos: 0 };
        console.log(`  RetryInfo: ${seconds * 1000 + Math.trunc(nanos / 1e6)} ms`);
        break;
      }
      case 'RequestInfo':
        console.log(`  RequestInfo: ${detail.requestId}`);
        break;
      case 'Help':
        for (const { url } of detail.links) console.log(`  Help: ${url}`);
        break;
    }
  }
}
