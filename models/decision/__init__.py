"""From scores to decisions: thresholds, rules, suppression and reasons."""
