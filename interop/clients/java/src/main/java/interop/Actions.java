package interop;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import com.huaweicloud.apic.v2.CertificateServiceGrpc;
import io.grpc.Channel;
import io.grpc.CompressorRegistry;
import io.grpc.MethodDescriptor;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse;
import io.grpc.health.v1.HealthGrpc;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.List;
import java.util.concurrent.ScheduledExecutorService;

/** Each action of the protocol. */
final class Actions {
    private final ScheduledExecutorService timer;

    Actions(ScheduledExecutorService timer) {
        this.timer = timer;
    }

    JsonObject run(Order order, Channel channel) throws InvalidProtocolBufferException {
        String compression = order.compression();
        if (compression != null && CompressorRegistry.getDefaultInstance().lookupCompressor(compression) == null) {
            JsonObject report = new JsonObject();
            report.addProperty("cannot", "grpc-java has no compressor for " + compression);
            return report;
        }
        return switch (order.action()) {
            case "call" -> call(order, channel);
            case "health" -> health(order, channel, HealthGrpc.getCheckMethod());
            case "watch" -> health(order, channel, HealthGrpc.getWatchMethod());
            case "reflect" -> order.version().equals("v1") ? reflect(order, channel) : reflectAlpha(order, channel);
            default -> throw new IllegalArgumentException("no such action: " + order.action());
        };
    }

    private <Q, T> Exchange<T> exchange(Order order, Channel channel, MethodDescriptor<Q, T> method, Q request) {
        int limit = order.count() == null ? Integer.MAX_VALUE : order.count();
        return Exchange.run(channel, method, request, order, limit, timer);
    }

    private JsonObject call(Order order, Channel channel) throws InvalidProtocolBufferException {
        MethodDescriptor<Message, Message> generated = generatedMethod(order.method());
        if (generated != null && order.request_bytes() == null) {
            Message.Builder request = prototype(generated.getRequestMarshaller()).newBuilderForType();
            JsonFormat.parser().merge(order.request() == null ? "{}" : order.request().toString(), request);
            Exchange<Message> exchange = exchange(order, channel, generated, request.build());
            return withResponse(exchange, exchange.messages);
        }
        Exchange<byte[]> exchange = exchange(order, channel, rawMethod(order.method()), order.requestBytes());
        if (generated == null || exchange.messages.isEmpty()) {
            return Report.of(exchange);
        }
        Message response = prototype(generated.getResponseMarshaller());
        return withResponse(exchange, List.of(response.getParserForType().parseFrom(exchange.messages.get(0))));
    }

    private static JsonObject withResponse(Exchange<?> exchange, List<Message> responses)
            throws InvalidProtocolBufferException {
        JsonObject report = Report.of(exchange);
        if (exchange.status.isOk()) {
            report.add("response", Report.json(responses.get(0)));
        }
        return report;
    }

    @SuppressWarnings("unchecked") // Every generated message is a Message.
    private static MethodDescriptor<Message, Message> generatedMethod(String name) {
        for (MethodDescriptor<?, ?> method : CertificateServiceGrpc.getServiceDescriptor().getMethods()) {
            if (method.getFullMethodName().equals(name)) {
                return (MethodDescriptor<Message, Message>) method;
            }
        }
        return null;
    }

    private static Message prototype(MethodDescriptor.Marshaller<Message> marshaller) {
        return ((MethodDescriptor.PrototypeMarshaller<Message>) marshaller).getMessagePrototype();
    }

    private static MethodDescriptor<byte[], byte[]> rawMethod(String name) {
        return MethodDescriptor.<byte[], byte[]>newBuilder()
            .setType(MethodDescriptor.MethodType.UNARY)
            .setFullMethodName(name)
            .setRequestMarshaller(new Bytes())
            .setResponseMarshaller(new Bytes())
            .build();
    }

    private JsonObject health(
            Order order, Channel channel, MethodDescriptor<HealthCheckRequest, HealthCheckResponse> method)
            throws InvalidProtocolBufferException {
        String service = order.service() == null ? "" : order.service();
        HealthCheckRequest request = HealthCheckRequest.newBuilder().setService(service).build();
        Exchange<HealthCheckResponse> exchange = exchange(order, channel, method, request);
        JsonArray statuses = new JsonArray();
        exchange.messages.forEach(response -> statuses.add(response.getStatus().name()));
        JsonObject report = Report.of(exchange);
        report.add("statuses", statuses);
        return report;
    }

    private JsonObject reflect(Order order, Channel channel) throws InvalidProtocolBufferException {
        var request = io.grpc.reflection.v1.ServerReflectionRequest.newBuilder().setListServices("").build();
        var method = io.grpc.reflection.v1.ServerReflectionGrpc.getServerReflectionInfoMethod();
        var exchange = exchange(order, channel, method, request);
        JsonArray services = new JsonArray();
        exchange.messages.forEach(response -> response.getListServicesResponse().getServiceList()
            .forEach(service -> services.add(service.getName())));
        return withServices(exchange, services);
    }

    // The deprecated version is what is tested.
    @SuppressWarnings("deprecation")
    private JsonObject reflectAlpha(Order order, Channel channel) throws InvalidProtocolBufferException {
        var request = io.grpc.reflection.v1alpha.ServerReflectionRequest.newBuilder().setListServices("").build();
        var method = io.grpc.reflection.v1alpha.ServerReflectionGrpc.getServerReflectionInfoMethod();
        var exchange = exchange(order, channel, method, request);
        JsonArray services = new JsonArray();
        exchange.messages.forEach(response -> response.getListServicesResponse().getServiceList()
            .forEach(service -> services.add(service.getName())));
        return withServices(exchange, services);
    }

    private static JsonObject withServices(Exchange<?> exchange, JsonArray services)
            throws InvalidProtocolBufferException {
        JsonObject report = Report.of(exchange);
        report.add("services", services);
        return report;
    }

    private static final class Bytes implements MethodDescriptor.Marshaller<byte[]> {
        @Override
        public InputStream stream(byte[] value) {
            return new ByteArrayInputStream(value);
        }

        @Override
        public byte[] parse(InputStream stream) {
            try {
                return stream.readAllBytes();
            } catch (IOException fault) {
                throw new UncheckedIOException(fault);
            }
        }
    }
}
