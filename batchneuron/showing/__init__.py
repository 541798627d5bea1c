"""What people see: progress, and records as text."""
