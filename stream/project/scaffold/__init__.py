"""What `riskstream init` copies into a new project."""
