package example;

import com.huaweicloud.apic.v2.AttachDomainsRequest;
import com.huaweicloud.apic.v2.AttachOrDetachDomainInfo;
import com.huaweicloud.apic.v2.CertificateServiceGrpc;
import com.huaweicloud.apic.v2.CertificateServiceGrpc.CertificateServiceBlockingStub;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.MetadataUtils;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.security.SecureRandom;
import java.util.HexFormat;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/**
 * Attaches a certificate to the domain names that it reads from standard input, one a line.
 *
 * <p>The target is host:port or unix:/path: the argument, or else the variable GATEWAY. README.md lists the other
 * variables.
 */
public final class Attach {
    private static final Metadata.Key<String> TOKEN = key("x-auth-token");
    private static final Metadata.Key<String> REQUEST_ID = key("x-request-id");
    private static final Metadata.Key<String> TRACEPARENT = key("traceparent");

    /** Longer than the gateway's own timeout: the error then comes from the gateway, and tells the outcome. */
    private static final long DEADLINE = Math.round(1000 * Double.parseDouble(Environment.get("DEADLINE", "40")));

    public static void main(String[] args) throws Exception {
        String target = args.length > 0 ? args[0] : Environment.get("GATEWAY", "127.0.0.1:50051");
        ManagedChannel channel = Environment.connect(target);
        boolean failed = false;
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String domain; (domain = lines.readLine()) != null; ) {
            try {
                attach(CertificateServiceGrpc.newBlockingStub(channel), domain);
                System.out.printf("%s: attached%n", domain);
            } catch (StatusRuntimeException error) {
                System.out.printf("%s: %s: %s%n",
                    domain, error.getStatus().getCode(), error.getStatus().getDescription());
                Details.print(error);
                failed = true;
            }
        }
        channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
        if (failed) {
            System.exit(1);
        }
    }

    private static void attach(CertificateServiceBlockingStub stub, String domain) {
        // The ids are those of `apig-grpc-gateway demo`.
        AttachDomainsRequest request = AttachDomainsRequest.newBuilder()
            .setProjectId(Environment.get("PROJECT_ID", "73d69ae0cfcf460190522d06b60f05ad"))
            .setCertificateId(Environment.get("CERTIFICATE_ID", "a27be832f2e9441c8127fe48e3b5ac67"))
            .addDomains(AttachOrDetachDomainInfo.newBuilder()
                .setDomain(domain)
                .addInstanceIds(Environment.get("INSTANCE_ID", "f0fa1789-3b76-433b-a787-9892951c620e")))
            .build();
        Metadata metadata = new Metadata();
        metadata.put(TOKEN, Environment.get("TOKEN", "demo-operator-token"));
        metadata.put(REQUEST_ID, UUID.randomUUID().toString());
        // In a service, OpenTelemetry's instrumentation of gRPC sends the trace of the request that is being served.
        metadata.put(TRACEPARENT, "00-" + randomHex(16) + "-" + randomHex(8) + "-01");
        System.out.printf("%s: x-request-id %s, traceparent %s%n",
            domain, metadata.get(REQUEST_ID), metadata.get(TRACEPARENT));
        // While the gateway restarts, the call waits for it until the deadline.
        stub.withWaitForReady()
            .withDeadlineAfter(DEADLINE, TimeUnit.MILLISECONDS)
            .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(metadata))
            .attachDomains(request);
    }

    private static Metadata.Key<String> key(String name) {
        return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
    }

    private static String randomHex(int length) {
        byte[] bytes = new byte[length];
        new SecureRandom().nextBytes(bytes);
        return HexFormat.of().formatHex(bytes);
    }
}
