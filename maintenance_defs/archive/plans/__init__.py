"""What may leave its table or the archive, and why the rest stays: surveyed, decided, recorded. Changes nothing."""
