"""What a policy remembers between batches: suppression and budgets."""
