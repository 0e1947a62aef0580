package interop;

import com.google.gson.JsonObject;
import io.grpc.Metadata;
import java.util.Base64;
import java.util.List;

/** A line of the input. */
record Order(
    String action,
    String target,
    Tls tls,
    String service_config,
    String method,
    JsonObject request,
    String request_bytes,
    List<List<String>> metadata,
    Long timeout_ms,
    Long cancel_after_ms,
    String compression,
    String service,
    Integer count,
    String version) {

    /** Files of PEM. */
    record Tls(String ca, String certificate, String key) {}

    /** A channel is kept for each. */
    record Endpoint(String target, Tls tls, String serviceConfig) {}

    Endpoint endpoint() {
        return new Endpoint(target, tls, service_config);
    }

    byte[] requestBytes() {
        return request_bytes == null ? new byte[0] : Base64.getDecoder().decode(request_bytes);
    }

    Metadata headers() {
        Metadata headers = new Metadata();
        for (List<String> entry : metadata == null ? List.<List<String>>of() : metadata) {
            String name = entry.get(0);
            String value = entry.get(1);
            if (name.endsWith(Metadata.BINARY_HEADER_SUFFIX)) {
                headers.put(Metadata.Key.of(name, Metadata.BINARY_BYTE_MARSHALLER), Base64.getDecoder().decode(value));
            } else {
                headers.put(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER), value);
            }
        }
        return headers;
    }
}
