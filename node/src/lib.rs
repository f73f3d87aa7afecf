//! One gateway process.
