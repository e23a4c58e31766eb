//! One run a target: the Lease, and the mark that outlives it (law 7).
