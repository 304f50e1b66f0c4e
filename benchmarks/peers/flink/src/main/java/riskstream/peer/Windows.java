package riskstream.peer;

import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/** One entity's step: reads its windows, the current event included, and keeps the event. */
public class Windows extends KeyedProcessFunction<String, Event, Event> {
    /** Which features the step computes. */
    public enum Kind {
        CARD,
        CUSTOMER,
        MERCHANT
    }

    private final Kind kind;
    private transient ValueState<Ring> state;

    public Windows(Kind kind) {
        this.kind = kind;
    }

    @Override
    public void open(OpenContext context) {
        state = getRuntimeContext().getState(new ValueStateDescriptor<>("ring", Ring.class));
    }

    @Override
    public void processElement(Event event, Context context, Collector<Event> out) throws Exception {
        Ring ring = state.value();
        if (ring == null) {
            ring = new Ring();
        }
        ring.add(event.time, event.amount);
        switch (kind) {
            case CARD -> ring.card(event.time, event.row, 1);
            case CUSTOMER -> ring.customer(event.time, event.row, 13);
            default -> ring.merchant(event.time, event.row, 21);
        }
        state.update(ring);
        out.collect(event);
    }
}
