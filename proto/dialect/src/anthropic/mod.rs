//! Anthropic's wire: messages.

mod block;
pub mod error;
pub mod reply;
pub mod request;
pub mod stream;
