// Attaches a certificate to the domain names that it reads from standard input, one a line.
//
//   npm start -- [TARGET]
//
// TARGET is host:port or unix:/path; without it, the variable GATEWAY is. README.md lists the other variables.
import { randomBytes, randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';
import { type ServiceError, Metadata, status as Code } from '@grpc/grpc-js';
import { printDetails } from './details.js';
import { client, env } from './gateway.js';

// Longer than the gateway's own timeout: the error then comes from the gateway, and tells the outcome.
const DEADLINE = Number(env('DEADLINE', '40')) * 1000;

function attach(domain: string): Promise<void> {
  // While the gateway restarts, the call waits for it until the deadline.
  const metadata = new Metadata({ waitForReady: true });
  metadata.set('x-auth-token', env('TOKEN', 'demo-operator-token'));
  metadata.set('x-request-id', randomUUID());
  // In a service, OpenTelemetry's instrumentation of gRPC sends the trace of the request that is being served.
  metadata.set('traceparent', `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-01`);
  const [id, trace] = ['x-request-id', 'traceparent'].map((key) => metadata.get(key)[0]);
  console.log(`${domain}: x-request-id ${id}, traceparent ${trace}`);
  const request = {
    // The ids are those of `apig-grpc-gateway demo`.
    projectId: env('PROJECT_ID', '73d69ae0cfcf460190522d06b60f05ad'),
    certificateId: env('CERTIFICATE_ID', 'a27be832f2e9441c8127fe48e3b5ac67'),
    domains: [{ domain, instanceIds: [env('INSTANCE_ID', 'f0fa1789-3b76-433b-a787-9892951c620e')] }],
  };
  return new Promise((resolve, reject) => {
    client.attachDomains(request, metadata, { deadline: Date.now() + DEADLINE }, (error) =>
      error ? reject(error) : resolve());
  });
}

for await (const domain of createInterface({ input: process.stdin })) {
  try {
    await attach(domain);
    console.log(`${domain}: attached`);
  } catch (error) {
    const refusal = error as ServiceError;
    console.log(`${domain}: ${Code[refusal.code]}: ${refusal.details}`);
    printDetails(refusal);
    process.exitCode = 1;
  }
}
client.close();
