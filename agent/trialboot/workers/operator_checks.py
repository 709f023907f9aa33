"""trialboot-operator-checks.service: runs the operator's own checks, away from all else."""

import sys

from trialboot import operatorchecks
from trialboot.workers import oneshot

if __name__ == "__main__":
    sys.exit(oneshot.run("operator-checks", operatorchecks.work))
