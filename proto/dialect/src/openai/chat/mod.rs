//! Chat completions: request, whole reply and stream, between OpenAI's words and the canonical form.

pub mod reply;
pub mod request;
pub mod stream;
mod tools;
