"""A data partner's side: e-commerce and government features."""
