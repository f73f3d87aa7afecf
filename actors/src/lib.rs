//! Owners of changing local state, and the views requests read.
