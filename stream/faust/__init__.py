"""riskstream inside Faust."""
