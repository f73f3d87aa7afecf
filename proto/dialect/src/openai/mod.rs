//! OpenAI's wire.

pub mod chat;
pub mod embeddings;
pub mod error;
