//! Calls to providers: one client a data thread, with its own connections.

mod body;
mod client;
mod connect;
mod endpoint;
mod lookup;
mod one;
mod shared;
mod tls;

pub use body::UpstreamBody;
pub use client::{Client, SendError};
pub use connect::ConnectError;
pub use endpoint::Endpoint;
pub use tls::TlsError;

#[cfg(test)]
mod tests;
