//! What nodes agree on.
