"""What every party of a consortium must agree on, free of input and output."""
