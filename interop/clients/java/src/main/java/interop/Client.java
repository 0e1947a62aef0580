package interop;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonObject;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;

/** Makes the calls that it is told to, one JSON object a line, and reports them: the protocol of {@code interop/}. */
public final class Client {
    private Client() {}

    public static void main(String[] args) throws IOException {
        Gson gson = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();
        PrintStream output = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
        Actions actions = new Actions(timer);
        try (Channels channels = new Channels()) {
            for (String line = input.readLine(); line != null; line = input.readLine()) {
                output.println(gson.toJson(report(gson.fromJson(line, Order.class), channels, actions)));
            }
        } finally {
            timer.shutdownNow();
        }
    }

    private static JsonObject report(Order order, Channels channels, Actions actions) {
        try {
            return actions.run(order, channels.channel(order.endpoint()));
        } catch (IOException | RuntimeException failure) {
            failure.printStackTrace();
            JsonObject report = new JsonObject();
            report.addProperty("failed", failure.toString());
            return report;
        }
    }
}
