package interop;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;

/** One call with one request: its status, messages and metadata. */
final class Exchange<T> {
    Status status;
    Metadata headers = new Metadata();
    Metadata trailers = new Metadata();
    final List<T> messages = new ArrayList<>();

    private final CompletableFuture<Void> end = new CompletableFuture<>();

    /** @param limit the number of messages after which a streaming call is cancelled, and counts as successful */
    static <Q, T> Exchange<T> run(
            Channel channel, MethodDescriptor<Q, T> method, Q request, Order order, int limit,
            ScheduledExecutorService timer) {
        CallOptions options = CallOptions.DEFAULT;
        if (order.timeout_ms() != null) {
            options = options.withDeadlineAfter(order.timeout_ms(), TimeUnit.MILLISECONDS);
        }
        if (order.compression() != null) {
            options = options.withCompression(order.compression());
        }
        ClientCall<Q, T> call = channel.newCall(method, options);
        Exchange<T> exchange = new Exchange<>();
        boolean unary = method.getType() == MethodDescriptor.MethodType.UNARY;
        call.start(exchange.listener(call, unary ? Integer.MAX_VALUE : limit), order.headers());
        // A unary call asks for a second message to notice one too many.
        call.request(unary ? 2 : 1);
        call.sendMessage(request);
        call.halfClose();
        ScheduledFuture<?> cancel = order.cancel_after_ms() == null ? null : timer.schedule(
            () -> call.cancel("cancelled by the program", null), order.cancel_after_ms(), TimeUnit.MILLISECONDS);
        exchange.end.join();
        if (cancel != null) {
            cancel.cancel(false);
        }
        return exchange;
    }

    private ClientCall.Listener<T> listener(ClientCall<?, T> call, int limit) {
        return new ClientCall.Listener<>() {
            @Override
            public void onHeaders(Metadata received) {
                headers = received;
            }

            @Override
            public void onMessage(T message) {
                if (messages.size() < limit) {
                    messages.add(message);
                    call.request(1);
                }
                if (messages.size() == limit) {
                    call.cancel("all messages have come", null);
                }
            }

            @Override
            public void onClose(Status closed, Metadata received) {
                status = messages.size() == limit ? Status.OK : closed;
                trailers = received;
                end.complete(null);
            }
        };
    }
}
