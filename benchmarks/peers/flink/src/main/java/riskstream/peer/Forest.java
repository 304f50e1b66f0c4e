package riskstream.peer;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtSession;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.Map;
import java.util.Set;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichMapFunction;

/** Scores each event with the common job's forest in ONNX Runtime, one thread. */
public class Forest extends RichMapFunction<Event, Event> {
    private final String path;
    private transient OrtEnvironment environment;
    private transient OrtSession session;
    private transient FloatBuffer buffer;
    private transient OnnxTensor tensor;
    private transient Map<String, OnnxTensor> input;
    private transient Set<String> output;

    public Forest(String path) {
        this.path = path;
    }

    @Override
    public void open(OpenContext context) throws Exception {
        environment = OrtEnvironment.getEnvironment();
        OrtSession.SessionOptions options = new OrtSession.SessionOptions();
        options.setIntraOpNumThreads(1);
        options.setInterOpNumThreads(1);
        session = environment.createSession(path, options);
        buffer = ByteBuffer.allocateDirect(25 * 4).order(ByteOrder.nativeOrder()).asFloatBuffer();
        tensor = OnnxTensor.createTensor(environment, buffer, new long[] {1, 25});
        input = Map.of(session.getInputNames().iterator().next(), tensor);
        output = Set.of("probabilities");
    }

    @Override
    public Event map(Event event) throws Exception {
        event.row[0] = event.amount;
        buffer.put(0, event.row);
        try (OrtSession.Result result = session.run(input, output)) {
            event.score = ((OnnxTensor) result.get(0)).getFloatBuffer().get(1);
        }
        return event;
    }

    @Override
    public void close() throws Exception {
        if (session != null) {
            tensor.close();
            session.close();
        }
    }
}
