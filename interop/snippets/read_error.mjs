// Makes a call and prints what a program can read of its error: code, reason, outcome, milliseconds to wait.
//
//   node read_error.mjs GATEWAY_HOST:PORT CERTIFICATE_ID [SERVICE_CONFIG]    (from where proto/ is)
import { readFileSync } from 'node:fs';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import protoFiles from 'google-proto-files';

const rpc = loadSync(['google/rpc/status.proto', 'google/rpc/error_details.proto'], {
  includeDirs: [protoFiles.getProtoPath('..')], defaults: true, longs: Number,
});

const [address, certificateId, config] = process.argv.slice(2);
const service = loadSync('huaweicloud/apic/v2/certificate_service.proto', { includeDirs: ['proto'] });
const { CertificateService } = grpc.loadPackageDefinition(service).huaweicloud.apic.v2;
const options = config ? { 'grpc.service_config': readFileSync(config, 'utf8') } : {};
const client = new CertificateService(address, grpc.credentials.createInsecure(), options);
const metadata = new grpc.Metadata();
metadata.set('x-auth-token', 'demo-operator-token');
const request = {
  projectId: '73d69ae0cfcf460190522d06b60f05ad',
  certificateId,
  domains: [{ domain: 'www.example.com', instanceIds: ['f0fa1789-3b76-433b-a787-9892951c620e'] }],
};

client.attachDomains(request, metadata, (error) => {
  client.close();
  if (!error) {
    console.log(0, '-', '-', 0);
    return;
  }
  let reason, outcome, delay;

  const [bytes] = error.metadata.get('grpc-status-details-bin');
  for (const { type_url: type, value } of bytes ? rpc['google.rpc.Status'].deserialize(bytes).details : []) {
    const detail = rpc[type.split('/').pop()].deserialize(value);
    if (type.endsWith('.ErrorInfo')) ({ reason, metadata: { outcome } } = detail);
    if (type.endsWith('.RetryInfo')) delay = detail.retryDelay.seconds * 1000 + detail.retryDelay.nanos / 1e6;
  }

  console.log(error.code, reason ?? '-', outcome ?? '-', delay ?? 0);
});
