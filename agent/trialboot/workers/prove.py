"""trialboot-prove.service: tries from the pods of this node what the operator wants reached."""

import sys

from trialboot import proving
from trialboot.workers import oneshot

if __name__ == "__main__":
    sys.exit(oneshot.run("prove", proving.work))
