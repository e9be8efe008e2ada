"""The example repository and the command, as the end-to-end tests have them."""

from tests.e2e.conftest import make_pool, pool

__all__ = ["make_pool", "pool"]
