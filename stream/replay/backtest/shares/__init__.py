"""A backtest split into shares that run side by side and go on after a kill."""
