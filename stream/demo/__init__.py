"""The demo: a simulated bank, a worker that scores it, and a screen that shows what is found."""
