import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.format.Json;
import java.io.BufferedOutputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.Reader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Properties;

/**
 * Runs Debezium's engine until it has given a number of events, writes each as a line of JSON to
 * /dev/null, and prints what it took: {"events", "seconds" from the first event to the last,
 * "memory_mib" at most}.
 *
 * <p>Usage: Runner PROPERTIES EVENTS
 */
public final class Runner {
    private final long expected;
    private final OutputStream out;
    private long events;
    private long first;

    private Runner(long expected, OutputStream out) {
        this.expected = expected;
        this.out = out;
    }

    public static void main(String[] arguments) throws IOException {
        Properties properties = new Properties();
        try (Reader file = Files.newBufferedReader(Path.of(arguments[0]))) {
            properties.load(file);
        }
        OutputStream out = new BufferedOutputStream(new FileOutputStream("/dev/null"), 1 << 20);
        Runner runner = new Runner(Long.parseLong(arguments[1]), out);
        DebeziumEngine.create(Json.class)
                .using(properties)
                .notifying(runner::batch)
                .using((success, message, error) -> {
                    // It has ended before all events were there.
                    System.err.println(message + (error == null ? "" : " " + error));
                    Runtime.getRuntime().halt(1);
                })
                .build()
                .run();
    }

    private void batch(
            List<ChangeEvent<String, String>> batch,
            DebeziumEngine.RecordCommitter<ChangeEvent<String, String>> committer)
            throws InterruptedException {
        if (first == 0) {
            first = System.nanoTime();
        }
        try {
            for (ChangeEvent<String, String> event : batch) {
                out.write(event.value().getBytes(StandardCharsets.UTF_8));
                out.write('\n');
                events++;
                committer.markProcessed(event);
            }
            committer.markBatchFinished();
            out.flush();
            if (events >= expected) {
                report((System.nanoTime() - first) / 1e9);
            }
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private void report(double seconds) throws IOException {
        String peak = Files.readAllLines(Path.of("/proc/self/status")).stream()
                .filter(line -> line.startsWith("VmHWM"))
                .findFirst()
                .orElseThrow()
                .replaceAll("\\D", "");
        System.out.printf(
                Locale.ROOT,
                "{\"events\": %d, \"seconds\": %.3f, \"memory_mib\": %.1f}%n",
                events,
                seconds,
                Long.parseLong(peak) / 1024.0);
        System.out.flush();
        // Closing the engine takes seconds and is not measured; the server is told by the socket.
        Runtime.getRuntime().halt(0);
    }
}
