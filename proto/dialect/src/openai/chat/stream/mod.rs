//! The chunks of a streamed chat completion.

mod decode;
mod encode;

pub use decode::Decoder;
pub use encode::{Encoder, Style};
