//! Owners of changing local state, and the views that requests read.
//!
//! A view outlives whoever publishes it: when the publisher dies, readers keep the last one and can tell its age.

mod view;

pub use view::Published;
