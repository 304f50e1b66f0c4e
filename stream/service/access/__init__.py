"""Who may ask: tokens, keys, authentication."""
