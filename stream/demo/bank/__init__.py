"""The simulated bank: who holds cards, who sells, who borrows, day after day."""
