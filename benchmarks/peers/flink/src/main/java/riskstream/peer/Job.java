package riskstream.peer;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.serialization.AbstractDeserializationSchema;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.kafka.clients.producer.ProducerRecord;

/** The common job on a local mini-cluster: three keyed steps, the forest, alerts exactly once. */
public final class Job {
    private static final class Decoder extends AbstractDeserializationSchema<Event> {
        private transient ObjectReader reader;

        @Override
        public void open(InitializationContext context) {
            reader = new ObjectMapper().readerFor(Event.class);
        }

        @Override
        public Event deserialize(byte[] message) throws IOException {
            return reader.readValue(message);
        }
    }

    private static String env(String name) {
        return System.getenv("BENCH_" + name);
    }

    private static StreamExecutionEnvironment environment() {
        Configuration settings = new Configuration();
        settings.set(StateBackendOptions.STATE_BACKEND, "hashmap");
        settings.set(CheckpointingOptions.CHECKPOINT_STORAGE, "filesystem");
        settings.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, "file://" + env("STATE"));
        StreamExecutionEnvironment flink = StreamExecutionEnvironment.createLocalEnvironment(1, settings);
        flink.enableCheckpointing("1".equals(env("LOW_LATENCY")) ? 50 : 5_000);
        flink.getConfig().enableObjectReuse();
        if ("1".equals(env("LOW_LATENCY"))) {
            flink.setBufferTimeout(1);
        }
        return flink;
    }

    private static final class Encoder implements KafkaRecordSerializationSchema<Event> {
        private final String topic;

        Encoder(String topic) {
            this.topic = topic;
        }

        @Override
        public ProducerRecord<byte[], byte[]> serialize(Event event, KafkaSinkContext context, Long timestamp) {
            String text = "{\"event_id\":\"%s\",\"card_id\":\"%s\",\"score\":%s}";
            byte[] value = text.formatted(event.eventId, event.card, event.score).getBytes(StandardCharsets.UTF_8);
            return new ProducerRecord<>(topic, event.card.getBytes(StandardCharsets.UTF_8), value);
        }
    }

    private static KafkaSink<Event> sink() {
        return KafkaSink.<Event>builder()
                .setBootstrapServers(env("BOOTSTRAP"))
                .setRecordSerializer(new Encoder(env("ALERTS")))
                .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
                .setTransactionalIdPrefix(env("GROUP"))
                .setProperty("transaction.timeout.ms", "600000")
                .build();
    }

    public static void main(String[] arguments) throws Exception {
        StreamExecutionEnvironment flink = environment();
        double threshold = Double.parseDouble(env("THRESHOLD"));
        KafkaSource<Event> source =
                KafkaSource.<Event>builder()
                        .setBootstrapServers(env("BOOTSTRAP"))
                        .setTopics(env("INPUT"))
                        .setGroupId(env("GROUP"))
                        .setStartingOffsets(OffsetsInitializer.earliest())
                        .setValueOnlyDeserializer(new Decoder())
                        .build();
        DataStream<Event> events =
                flink.fromSource(source, WatermarkStrategy.noWatermarks(), "transactions")
                        .keyBy(event -> event.card)
                        .process(new Windows(Windows.Kind.CARD))
                        .keyBy(event -> event.customer)
                        .process(new Windows(Windows.Kind.CUSTOMER))
                        .keyBy(event -> event.merchant)
                        .process(new Windows(Windows.Kind.MERCHANT))
                        .map(new Forest(env("MODEL") + "/model.onnx"));
        events.filter(event -> event.score >= threshold).sinkTo(sink());
        flink.execute("peer");
    }

    private Job() {}
}
