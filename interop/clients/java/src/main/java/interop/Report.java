package interop;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.TypeRegistry;
import com.google.protobuf.util.JsonFormat;
import com.google.rpc.ErrorDetailsProto;
import io.grpc.Metadata;
import io.grpc.protobuf.StatusProto;
import java.util.Base64;

/** Results of calls as JSON. */
final class Report {
    private static final JsonFormat.Printer JSON = JsonFormat.printer().usingTypeRegistry(
        TypeRegistry.newBuilder().add(ErrorDetailsProto.getDescriptor().getMessageTypes()).build());

    private Report() {}

    static JsonObject of(Exchange<?> exchange) throws InvalidProtocolBufferException {
        JsonObject report = new JsonObject();
        report.addProperty("code", exchange.status.getCode().name());
        String message = exchange.status.getDescription();
        report.addProperty("message", message == null ? "" : message);
        JsonArray details = new JsonArray();
        com.google.rpc.Status status = StatusProto.fromStatusAndTrailers(exchange.status, exchange.trailers);
        for (Any detail : status.getDetailsList()) {
            details.add(json(detail));
        }
        report.add("details", details);
        report.add("response", JsonNull.INSTANCE);
        report.add("headers", json(exchange.headers));
        report.add("trailers", json(exchange.trailers));
        return report;
    }

    static JsonElement json(Message message) throws InvalidProtocolBufferException {
        return JsonParser.parseString(JSON.print(message));
    }

    private static JsonArray json(Metadata metadata) {
        JsonArray entries = new JsonArray();
        for (String name : metadata.keys()) {
            if (name.endsWith(Metadata.BINARY_HEADER_SUFFIX)) {
                for (byte[] value : metadata.getAll(Metadata.Key.of(name, Metadata.BINARY_BYTE_MARSHALLER))) {
                    entries.add(entry(name, Base64.getEncoder().encodeToString(value)));
                }
            } else {
                for (String value : metadata.getAll(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER))) {
                    entries.add(entry(name, value));
                }
            }
        }
        return entries;
    }

    private static JsonArray entry(String name, String value) {
        JsonArray entry = new JsonArray();
        entry.add(name);
        entry.add(value);
        return entry;
    }
}
