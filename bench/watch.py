"""`python -m bench.watch FOLDER`: watch a folder with watchdog alone, and end when it watches.

This is the lower limit of the start of the daemon: the same library, no config, no state, no checks.
"""

import os
import sys

from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer

if __name__ == "__main__":
    observer = Observer()
    observer.schedule(FileSystemEventHandler(), sys.argv[1], recursive=True)
    observer.start()
    # The removal of the watches is not measured.
    os._exit(0)
