#!/usr/bin/env bash
# benches/profile.sh - what a boot profile is worth, over a link of 50 Mbit/s with 100 ms there and back, and what it costs
# those who read something else meanwhile, over a link of 20 Mbit/s.
#
# Prints the figures; fails where a boot with its profile takes more than 1.3 times its bytes divided by the rate or more
# than a third of the time without, or where the p99 of reads on demand more than doubles. Needs neither root nor FUSE.
set -euo pipefail
cd "$(dirname "$0")/.."
HFL_FULL=1 cargo test --quiet --release --test it -- --nocapture \
  --test-threads=1 client::profile::timed_
