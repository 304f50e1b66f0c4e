package riskstream.peer;

import com.fasterxml.jackson.annotation.JsonIgnore;
import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;

/** A card transaction and its 25 features (amount; card count, mean, max; customer count, std; merchant mean). */
@JsonIgnoreProperties(ignoreUnknown = true)
public class Event {
    @JsonProperty("event_id")
    public String eventId;

    @JsonProperty("event_time")
    public long time;

    @JsonProperty("card_id")
    public String card;

    @JsonProperty("customer_id")
    public String customer;

    @JsonProperty("merchant_id")
    public String merchant;

    public long amount;

    @JsonIgnore
    public float[] row = new float[25];

    @JsonIgnore
    public float score;
}
