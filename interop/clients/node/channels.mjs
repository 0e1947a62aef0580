// Clients of a channel, which live as long as the program.
import { readFileSync } from 'node:fs';
import grpc from '@grpc/grpc-js';

const clients = new Map();

export function client({ target, tls, service_config: config, compression }) {
  const key = JSON.stringify([target, tls, config, compression]);
  if (!clients.has(key)) {
    const options = {
      ...(config && { 'grpc.service_config': readFileSync(config, 'utf8') }),
      // A channel compresses all of its calls, or none.
      ...(compression && { 'grpc.default_compression_algorithm': grpc.compressionAlgorithms[compression] }),
      // Else channels with the same options share their connections, and it is not known which calls share one.
      'grpc.use_local_subchannel_pool': 1,
    };
    clients.set(key, new grpc.Client(target, credentials(tls), options));
  }
  return clients.get(key);
}

function credentials(tls) {
  if (!tls) {
    return grpc.credentials.createInsecure();
  }
  const [ca, key, certificate] = [tls.ca, tls.key, tls.certificate].map((path) => (path ? readFileSync(path) : null));
  return grpc.credentials.createSsl(ca, key, certificate);
}
