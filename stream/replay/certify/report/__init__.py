"""What a certificate says: differences, their causes, and the signed file."""
