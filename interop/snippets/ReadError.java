import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import com.google.protobuf.Any;
import com.google.protobuf.CodedOutputStream;
import com.google.protobuf.Duration;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.CallOptions;
import io.grpc.ClientInterceptors;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;

/**
 * Makes a call and prints what a program can read of its error: code, reason, outcome, milliseconds to wait.
 *
 * <p>{@code ReadError GATEWAY_HOST:PORT CERTIFICATE_ID [SERVICE_CONFIG]}. Without generated code: messages are bytes.
 */
public final class ReadError {
    public static void main(String[] args) throws Exception {
        ManagedChannelBuilder<?> builder = ManagedChannelBuilder.forTarget(args[0]).usePlaintext();
        if (args.length > 2) {
            String config = Files.readString(Path.of(args[2]));
            builder.defaultServiceConfig(new Gson().fromJson(config, new TypeToken<Map<String, Object>>() {}));
        }
        ManagedChannel channel = builder.build();
        Metadata metadata = new Metadata();
        metadata.put(Metadata.Key.of("x-auth-token", Metadata.ASCII_STRING_MARSHALLER), "demo-operator-token");
        MethodDescriptor<byte[], byte[]> method = MethodDescriptor.<byte[], byte[]>newBuilder()
            .setType(MethodDescriptor.MethodType.UNARY)
            .setFullMethodName("huaweicloud.apic.v2.CertificateService/AttachDomains")
            .setRequestMarshaller(new Bytes())
            .setResponseMarshaller(new Bytes())
            .build();
        try {
            ClientCalls.blockingUnaryCall(
                ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(metadata)),
                method,
                CallOptions.DEFAULT,
                request(args[1]));
            System.out.println("0 - - 0");
        } catch (StatusRuntimeException error) {
            print(error);
        } finally {
            channel.shutdownNow();
        }
    }

    private static void print(StatusRuntimeException error) throws IOException {
        String reason = "";
        String outcome = "";
        Duration delay = Duration.getDefaultInstance();

        for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
            if (detail.is(ErrorInfo.class)) {
                reason = detail.unpack(ErrorInfo.class).getReason();
                outcome = detail.unpack(ErrorInfo.class).getMetadataOrDefault("outcome", "");
            } else if (detail.is(RetryInfo.class)) {
                delay = detail.unpack(RetryInfo.class).getRetryDelay();
            }
        }

        System.out.println(String.join(" ",
            String.valueOf(error.getStatus().getCode().value()),
            reason.isEmpty() ? "-" : reason,
            outcome.isEmpty() ? "-" : outcome,
            String.valueOf(delay.getSeconds() * 1000 + delay.getNanos() / 1_000_000)));
    }

    private static byte[] request(String certificate) throws IOException {
        byte[] domain = message("www.example.com", "f0fa1789-3b76-433b-a787-9892951c620e", null);
        return message("73d69ae0cfcf460190522d06b60f05ad", certificate, domain);
    }

    /** Fields 1 and 2 are texts in both messages, field 3 is a message in one. */
    private static byte[] message(String first, String second, byte[] third) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        CodedOutputStream fields = CodedOutputStream.newInstance(bytes);
        fields.writeString(1, first);
        fields.writeString(2, second);
        if (third != null) {
            fields.writeByteArray(3, third);
        }
        fields.flush();
        return bytes.toByteArray();
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
