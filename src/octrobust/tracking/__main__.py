"""`python -m octrobust.tracking WAIT SECONDS`: bring the spool into the store, in a process of its
own.

Exit code 0 if nothing is left to say, else 1 and the reason as the last line of stdout.
"""

import sys

from octrobust.tracking.attempt import WAITING
from octrobust.tracking.log import flush

if __name__ == "__main__":
    done = flush(wait=float(sys.argv[1]), seconds=float(sys.argv[2]))
    if done.error or done.pending:
        print(done.error or f"{done.pending} {WAITING}")
        raise SystemExit(1)
