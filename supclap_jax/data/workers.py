"""Worker processes that end with their parent."""

import multiprocessing
import os
import signal
import threading


def live_with_parent(*_) -> None:
    """Called in a worker: it leaves signals to its parent and ends with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def follow():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
