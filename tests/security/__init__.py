"""Attacks, each twice: without the protection it succeeds, with it it does not. `table.ALL` holds them."""
