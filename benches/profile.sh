#!/usr/bin/env bash
# benches/profile.sh - measures the benefit of a boot profile over a link of 50 Mbit/s with a round trip
# of 100 ms, and its cost for other reads over a link of 20 Mbit/s.
#
# Prints the figures. Fails if a boot with its profile takes more than 1.3 times its bytes divided by the
# rate, or more than a third of the time without a profile, or if the p99 of demand reads more than
# doubles. Needs neither root nor FUSE.
set -euo pipefail
cd "$(dirname "$0")/.."
HFL_FULL=1 cargo test --quiet --release --test it -- --nocapture \
  --test-threads=1 client::profile::timed_
