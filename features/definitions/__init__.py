"""What a project writes, checked and compiled into a plan."""
