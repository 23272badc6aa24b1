"""What of the house style a machine can check."""
