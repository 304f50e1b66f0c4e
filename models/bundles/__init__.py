"""Models as files: written, signed, verified, registered, promoted."""
