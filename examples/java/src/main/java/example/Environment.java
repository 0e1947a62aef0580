package example;

import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** The connection and its settings. */
final class Environment {
    static String get(String name, String otherwise) {
        String value = System.getenv(name);
        return value == null || value.isEmpty() ? otherwise : value;
    }

    /** One channel for all calls: it connects on the first call, and again after a restart of the gateway. */
    static ManagedChannel connect(String target) throws IOException {
        return Grpc.newChannelBuilder(target, credentials())
            .defaultServiceConfig(serviceConfig())
            .keepAliveTime(30, TimeUnit.SECONDS)
            .keepAliveTimeout(10, TimeUnit.SECONDS)
            .build();
    }

    /** Mutual TLS if the variables name the files, and plain text otherwise. */
    private static ChannelCredentials credentials() throws IOException {
        String ca = get("GATEWAY_CA", "");
        if (ca.isEmpty()) {
            return InsecureChannelCredentials.create();
        }
        return TlsChannelCredentials.newBuilder()
            .trustManager(new File(ca))
            .keyManager(new File(get("GATEWAY_CERTIFICATE", "")), new File(get("GATEWAY_KEY", "")))
            .build();
    }

    private static Map<String, Object> serviceConfig() throws IOException {
        try (InputStream config = Environment.class.getResourceAsStream("/service-config.json")) {
            return new Gson().fromJson(
                new InputStreamReader(config, StandardCharsets.UTF_8), new TypeToken<Map<String, Object>>() {});
        }
    }
}
