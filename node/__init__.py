"""What a bank's and a partner's node share."""
