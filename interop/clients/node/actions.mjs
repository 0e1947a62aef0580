// Each action of the protocol.
import grpc from '@grpc/grpc-js';
import { client } from './channels.mjs';
import { detailsJson, fromJson, healthService, reflectionService, service, toJson } from './messages.mjs';

const bytes = (value) => value;

export async function call(order) {
  const path = `/${order.method}`;
  const method = Object.values(service).find((known) => known.path === path);
  const raw = !method || order.request_bytes !== undefined;
  const request = raw ? Buffer.from(order.request_bytes ?? '', 'base64') : fromJson(order.request ?? {});
  const seen = await unary(order, path, raw ? bytes : method.requestSerialize, method?.responseDeserialize ?? bytes, request);
  return { ...report(seen), response: method && seen.response ? toJson(seen.response) : null };
}

export async function health(order) {
  const { path, requestSerialize, responseDeserialize } = healthService.Check;
  const seen = await unary(order, path, requestSerialize, responseDeserialize, { service: order.service ?? '' });
  return { ...report(seen), statuses: seen.response ? [seen.response.status] : [] };
}

export async function watch(order) {
  const { path, requestSerialize, responseDeserialize } = healthService.Watch;
  const stream = client(order).makeServerStreamRequest(
    path, requestSerialize, responseDeserialize, { service: order.service ?? '' }, metadata(order), options(order),
  );
  const seen = await streamed(order, stream);
  return { ...report(seen), statuses: seen.messages.map(({ status }) => status) };
}

export async function reflect(order) {
  const { path, requestSerialize, responseDeserialize } = reflectionService(order.version).ServerReflectionInfo;
  const stream = client(order).makeBidiStreamRequest(
    path, requestSerialize, responseDeserialize, metadata(order), options(order),
  );
  stream.end({ listServices: '' });
  const seen = await streamed(order, stream);
  const services = seen.messages.flatMap((message) => message.listServicesResponse?.service ?? []);
  return { ...report(seen), services: services.map(({ name }) => name) };
}

function unary(order, path, serialize, deserialize, request) {
  return new Promise((resolve) => {
    const seen = {};
    let ended = 0;
    // The callback and the event `status` come in no certain order.
    const end = (part) => {
      Object.assign(seen, part);
      ended += 1;
      if (ended === 2) resolve(seen);
    };
    const started = client(order).makeUnaryRequest(
      path, serialize, deserialize, request, metadata(order), options(order), (_, response) => end({ response }),
    );
    started.on('metadata', (headers) => Object.assign(seen, { headers }));
    started.on('status', (status) => end({ status }));
    cancelLater(order, started);
  });
}

// Cancels after `count` messages, which is a success then.
function streamed(order, stream) {
  return new Promise((resolve) => {
    const seen = { messages: [] };
    stream.on('metadata', (headers) => Object.assign(seen, { headers }));
    stream.on('data', (message) => {
      if (seen.messages.length === order.count) return;
      seen.messages.push(message);
      if (seen.messages.length === order.count) stream.cancel();
    });
    // The status of an error is an event of its own too.
    stream.on('error', () => {});
    stream.on('status', (status) => {
      const enough = seen.messages.length === order.count;
      resolve({ ...seen, status: enough ? { ...status, code: grpc.status.OK, details: '' } : status });
    });
    cancelLater(order, stream);
  });
}

function cancelLater(order, started) {
  if (order.cancel_after_ms !== undefined) {
    const timer = setTimeout(() => started.cancel(), order.cancel_after_ms);
    started.on('status', () => clearTimeout(timer));
  }
}

function options({ timeout_ms: timeout }) {
  return timeout === undefined ? {} : { deadline: Date.now() + timeout };
}

function metadata(order) {
  const sent = new grpc.Metadata();
  for (const [name, value] of order.metadata ?? []) {
    sent.add(name, name.endsWith('-bin') ? Buffer.from(value, 'base64') : value);
  }
  return sent;
}

function report({ status, headers }) {
  const [bytesOfDetails] = status.metadata.get('grpc-status-details-bin');
  return {
    code: grpc.status[status.code],
    message: status.details,
    details: bytesOfDetails ? detailsJson(bytesOfDetails) : [],
    response: null,
    headers: entries(headers),
    trailers: entries(status.metadata),
  };
}

function entries(received) {
  return Object.keys(received?.getMap() ?? {}).flatMap((name) =>
    received.get(name).map((value) => [name, Buffer.isBuffer(value) ? value.toString('base64') : value]),
  );
}
