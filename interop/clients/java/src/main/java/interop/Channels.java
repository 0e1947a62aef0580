package interop;

import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.TlsChannelCredentials;
import io.grpc.netty.NettyChannelBuilder;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.epoll.EpollDomainSocketChannel;
import io.netty.channel.epoll.EpollIoHandler;
import io.netty.channel.unix.DomainSocketAddress;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

/** Channels, which live as long as the program. */
final class Channels implements AutoCloseable {
    private static final String UNIX = "unix:";

    private final Map<Order.Endpoint, ManagedChannel> channels = new HashMap<>();
    private EventLoopGroup unixGroup;

    ManagedChannel channel(Order.Endpoint endpoint) throws IOException {
        ManagedChannel channel = channels.get(endpoint);
        if (channel == null) {
            channel = connect(endpoint);
            channels.put(endpoint, channel);
        }
        return channel;
    }

    private ManagedChannel connect(Order.Endpoint endpoint) throws IOException {
        ChannelCredentials credentials = credentials(endpoint.tls());
        ManagedChannelBuilder<?> builder = endpoint.target().startsWith(UNIX)
            ? unix(endpoint.target().substring(UNIX.length()), credentials)
            : Grpc.newChannelBuilder(endpoint.target(), credentials);
        if (endpoint.serviceConfig() != null) {
            String config = Files.readString(Path.of(endpoint.serviceConfig()));
            builder.defaultServiceConfig(new Gson().fromJson(config, new TypeToken<Map<String, Object>>() {}));
        }
        return builder.build();
    }

    private static ChannelCredentials credentials(Order.Tls tls) throws IOException {
        if (tls == null) {
            return InsecureChannelCredentials.create();
        }
        TlsChannelCredentials.Builder builder = TlsChannelCredentials.newBuilder().trustManager(new File(tls.ca()));
        if (tls.certificate() != null) {
            builder.keyManager(new File(tls.certificate()), new File(tls.key()));
        }
        return builder.build();
    }

    private NettyChannelBuilder unix(String path, ChannelCredentials credentials) {
        if (unixGroup == null) {
            unixGroup = new MultiThreadIoEventLoopGroup(1, EpollIoHandler.newFactory());
        }
        return NettyChannelBuilder.forAddress(new DomainSocketAddress(path), credentials)
            .eventLoopGroup(unixGroup)
            .channelType(EpollDomainSocketChannel.class);
    }

    @Override
    public void close() {
        channels.values().forEach(ManagedChannel::shutdownNow);
        if (unixGroup != null) {
            unixGroup.shutdownGracefully();
        }
    }
}
