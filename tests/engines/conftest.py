"""What Ray reads when it is imported: no statistics are sent, and no token is written to the home folder."""

import os

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_MODE"] = "disabled"
