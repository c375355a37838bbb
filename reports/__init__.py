"""What people see: tables, figures, traces. Draws results; computes none."""
