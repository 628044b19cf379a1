"""Measurements on real data, outside the product: whoever runs them brings the data."""
