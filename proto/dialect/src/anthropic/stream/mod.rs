//! The events of a streamed message.

mod arguments;
mod decode;
mod encode;

pub use decode::Decoder;
pub use encode::Encoder;
