"""How a conversation is put to a server and how calls are read out of its replies: one module per way."""
