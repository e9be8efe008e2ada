"""When and how the context is made shorter."""
