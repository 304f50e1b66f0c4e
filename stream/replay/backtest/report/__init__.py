"""What a backtest found: figures, comparison, page."""
