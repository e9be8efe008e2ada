"""What every test needs: signals as a terminal has them."""

from __future__ import annotations

import signal

# A shell starts background jobs, a CI job perhaps, with these ignored; children inherit that, and could not be stopped.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
