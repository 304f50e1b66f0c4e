package riskstream.peer;

/** Times (ms) and amounts (cents) of one entity's events of the last 30 days, in time order. */
public class Ring {
    private static final long DAY = 86_400_000L;
    private static final long[] WINDOWS = {3_600_000L, DAY, 7 * DAY, 30 * DAY};

    public long[] times = new long[8];
    public long[] amounts = new long[8];
    public int size;

    /** Appends the current event and forgets what no window can reach. */
    void add(long time, long amount) {
        int gone = firstAfter(time - WINDOWS[3]);
        if (gone > 0) {
            size -= gone;
            System.arraycopy(times, gone, times, 0, size);
            System.arraycopy(amounts, gone, amounts, 0, size);
        }
        if (size == times.length) {
            times = java.util.Arrays.copyOf(times, size * 2);
            amounts = java.util.Arrays.copyOf(amounts, size * 2);
        }
        times[size] = time;
        amounts[size++] = amount;
    }

    private int firstAfter(long edge) {
        int low = 0;
        int high = size;
        while (low < high) {
            int middle = (low + high) >>> 1;
            if (times[middle] <= edge) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        return low;
    }

    /** count, mean and max for each window, into row[at ..]. */
    void card(long time, float[] row, int at) {
        for (int window = 0; window < 4; window++) {
            int start = firstAfter(time - WINDOWS[window]);
            long sum = 0;
            long max = Long.MIN_VALUE;
            for (int i = start; i < size; i++) {
                sum += amounts[i];
                max = Math.max(max, amounts[i]);
            }
            row[at + window] = size - start;
            row[at + 4 + window] = (float) ((double) sum / (size - start));
            row[at + 8 + window] = max;
        }
    }

    /** count and sample standard deviation (0 for one event) for each window, into row[at ..]. */
    void customer(long time, float[] row, int at) {
        for (int window = 0; window < 4; window++) {
            int start = firstAfter(time - WINDOWS[window]);
            long sum = 0;
            long squares = 0;
            for (int i = start; i < size; i++) {
                sum += amounts[i];
                squares += amounts[i] * amounts[i];
            }
            int count = size - start;
            row[at + window] = count;
            double mean = (double) sum * sum / count;
            row[at + 4 + window] = count < 2 ? 0f : (float) Math.sqrt((squares - mean) / (count - 1));
        }
    }

    /** mean for each window, into row[at ..]. */
    void merchant(long time, float[] row, int at) {
        for (int window = 0; window < 4; window++) {
            int start = firstAfter(time - WINDOWS[window]);
            long sum = 0;
            for (int i = start; i < size; i++) {
                sum += amounts[i];
            }
            row[at + window] = (float) ((double) sum / (size - start));
        }
    }
}
