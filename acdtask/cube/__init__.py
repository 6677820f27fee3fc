"""Where pixels live."""
