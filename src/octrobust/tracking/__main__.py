"""`python -m octrobust.tracking SECONDS`: bring the spool into the store, in a process of its own.

Exit code 0 if nothing is left to say, else 1 and the reason as the last line of stdout.
"""

import sys

from octrobust.tracking.log import flush

if __name__ == "__main__":
    error = flush(wait=float(sys.argv[1])).error
    if error:
        print(error)
        raise SystemExit(1)
